/**
 * Paths that come from outside (images, manifests, containers), opened beneath a directory that they cannot leave: openat2(2), so the
 * kernel checks while it walks, and a symlink swapped in meanwhile changes nothing.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { openat2, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS } from './libc.ts';

/** From linux/fcntl.h; Node does not export it. */
export const O_PATH = 0o10000000;

const relative = (path: string): string => {
  const stripped = path.replace(/^\/+/, '');
  return stripped === '' ? '.' : stripped;
};

/**
 * Opens `path` as if `rootFd` were `/`: absolute links and `..` stay inside. Returns a descriptor that the caller closes.
 * Throws SyscallError (ENOENT, ELOOP, …).
 */
export const openInRoot = (rootFd: number, path: string, flags: number, mode = 0): number =>
  openat2(rootFd, relative(path), { flags, mode, resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS });

/** Opens `path` below `dirFd`; one that would leave it, even by a link and back, is Fault invalid. */
export function openBeneath(dirFd: number, path: string, flags: number, mode = 0): number {
  try {
    return openat2(dirFd, path === '' ? '.' : path, { flags, mode, resolve: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS });
  } catch (error) {
    if (isErrno(error, 'EXDEV', 'ELOOP')) throw new Fault('invalid', `${path}: leads out of its directory`, error);
    throw error;
  }
}

/** The real path of `path` as seen from inside `root`: every link resolved, beneath `root` for certain at this moment. ENOENT when absent. */
export async function resolveInRoot(root: string, path: string): Promise<string> {
  const rootFd = openSync(root, constants.O_DIRECTORY | O_PATH);
  try {
    const fd = openInRoot(rootFd, path, O_PATH);
    try {
      return await readlink(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(rootFd);
  }
}
