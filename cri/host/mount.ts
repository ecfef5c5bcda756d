/** Mounting and unmounting: option words in, flag numbers stay inside. All of it runs in libuv's pool. */
import { closeSync, constants, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { fsconfigCreate, fsconfigFlag, fsconfigString, fsmount, fsopen, MNT_DETACH, mountAsync, moveMount, umountAsync, UMOUNT_NOFOLLOW } from './libc.ts';
import { parseMountOptions, remountFlags } from './mount-flags.ts';

export interface MountRequest {
  readonly source?: string;
  readonly target: string;
  /** A file system type; none for a bind. */
  readonly type?: string;
  /** Words such as `ro`, `nosuid`, `rbind`, `rslave`, `mode=1777`. */
  readonly options: readonly string[];
}

/** mount(8) in one call: for binds the remount that makes `ro` and the like effective, and the propagation change, are done as well. */
export async function mount(request: MountRequest): Promise<void> {
  const { flags, propagation, data } = parseMountOptions(request.options);
  const source = request.source ?? request.type ?? 'none';
  await mountAsync({ source, target: request.target, type: request.type ?? null, flags, data: data === '' ? null : data });
  try {
    const again = request.type === undefined ? remountFlags(flags) : 0;
    if (again !== 0) await mountAsync({ source: null, target: request.target, type: null, flags: again, data: null });
    if (propagation !== 0) await mountAsync({ source: null, target: request.target, type: null, flags: propagation, data: null });
  } catch (error) {
    await unmount(request.target, { lazy: true });
    throw error;
  }
}

/** A bind mount of a file or directory on an existing target of the same kind. */
export const bind = (request: { source: string; target: string; recursive?: boolean; readonly?: boolean }): Promise<void> =>
  mount({ source: request.source, target: request.target, options: [request.recursive === true ? 'rbind' : 'bind', request.readonly === true ? 'ro' : 'rw'] });

/** Changes the propagation of an existing mount. */
export async function makePropagation(target: string, kind: 'shared' | 'slave' | 'private', options: { recursive?: boolean } = {}): Promise<void> {
  const { propagation } = parseMountOptions([options.recursive === true ? `r${kind}` : kind]);
  await mountAsync({ source: null, target, type: null, flags: propagation, data: null });
}

/**
 * Unmounts the topmost mount at `target`; `lazy` detaches it even while it is in use. Absent or not mounted is success: may run twice.
 * A symlink at `target` is not followed.
 */
export async function unmount(target: string, options: { lazy?: boolean } = {}): Promise<void> {
  try {
    await umountAsync(target, UMOUNT_NOFOLLOW | (options.lazy === true ? MNT_DETACH : 0));
  } catch (error) {
    if (!isErrno(error, 'EINVAL', 'ENOENT')) throw error;
  }
}

/** True when a file system begins at this directory (not seen for a bind of a directory of the same file system: see mountinfo.ts). */
export async function isMountPoint(path: string): Promise<boolean> {
  try {
    const [here, above] = await Promise.all([stat(path), stat(dirname(path))]);
    return here.dev !== above.dev;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

export interface OverlayRequest {
  readonly target: string;
  /** Topmost first; at least one. */
  readonly lower: readonly string[];
  /** Without these two the mount is read-only. */
  readonly upper?: string;
  readonly work?: string;
  /** Words for overlayfs itself, such as `volatile` or `metacopy=off`. */
  readonly options?: readonly string[];
  /** SELinux label of all files in it. */
  readonly label?: string | undefined;
}

let hasLowerAppend: boolean | undefined;

/**
 * Mounts an overlay. With fsconfig's `lowerdir+` (Linux 6.8) the number and length of layers do not matter. Older kernels get one string of options and
 * silently cut it off after a page, so long lists are given as descriptors (`/proc/self/fd/N`), which are short.
 */
export async function overlayMount(request: OverlayRequest): Promise<void> {
  if (hasLowerAppend !== false) {
    try {
      await overlayByFd(request);
      hasLowerAppend = true;
      return;
    } catch (error) {
      if (hasLowerAppend === true || !isErrno(error, 'EINVAL', 'ENOSYS')) throw error;
      hasLowerAppend = false;
    }
  }
  await overlayByOptions(request);
}

const maxOptionBytes = 4095;

/** mount(2): what kernels before 6.8 understand. Exported for its test. */
export async function overlayByOptions(request: OverlayRequest): Promise<void> {
  const options = (lower: readonly string[]): string => {
    const words = [`lowerdir=${lower.map(escapeColon).join(':')}`];
    if (request.upper !== undefined && request.work !== undefined) words.push(`upperdir=${escapeComma(request.upper)}`, `workdir=${escapeComma(request.work)}`);
    // Quoted, for the categories in it have a comma between them.
    if (request.label !== undefined) words.push(`context="${request.label}"`);
    return [...words, ...(request.options ?? [])].join(',');
  };
  const mountWith = (data: string): Promise<number> => mountAsync({ source: 'overlay', target: request.target, type: 'overlay', flags: 0, data });
  const plain = options(request.lower);
  if (Buffer.byteLength(plain) <= maxOptionBytes) {
    await mountWith(plain);
    return;
  }
  const fds = request.lower.map((path) => openSync(path, constants.O_DIRECTORY));
  try {
    const short = options(fds.map((fd) => `/proc/self/fd/${fd}`));
    if (Buffer.byteLength(short) > maxOptionBytes) throw new Fault('invalid', `${request.lower.length} layers are too many for this kernel`);
    await mountWith(short);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

const escapeComma = (path: string): string => path.replaceAll('\\', '\\\\').replaceAll(',', '\\,');
const escapeColon = (path: string): string => escapeComma(path).replaceAll(':', '\\:');

async function overlayByFd(request: OverlayRequest): Promise<void> {
  const fsFd = fsopen('overlay');
  try {
    fsconfigString(fsFd, 'source', 'overlay');
    for (const layer of request.lower) fsconfigString(fsFd, 'lowerdir+', layer);
    if (request.upper !== undefined && request.work !== undefined) {
      fsconfigString(fsFd, 'upperdir', request.upper);
      fsconfigString(fsFd, 'workdir', request.work);
    }
    if (request.label !== undefined) fsconfigString(fsFd, 'context', request.label);
    for (const word of request.options ?? []) {
      const equals = word.indexOf('=');
      if (equals < 0) fsconfigFlag(fsFd, word);
      else fsconfigString(fsFd, word.slice(0, equals), word.slice(equals + 1));
    }
    await fsconfigCreate(fsFd);
    const mountFd = fsmount(fsFd, 0);
    try {
      await moveMount(mountFd, request.target);
    } finally {
      closeSync(mountFd);
    }
  } finally {
    closeSync(fsFd);
  }
}
