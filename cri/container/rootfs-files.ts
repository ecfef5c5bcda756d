/** Files and directories of a container's own root, always reached beneath it: an image can name nothing of the host by a link. */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Mount } from '#cri-api';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import type { Owner } from '#host/id-mapping.ts';
import { chownAt, mkdirAt } from '#host/libc.ts';
import { O_PATH, openInRoot } from '#host/safe-path.ts';
import type { AccountFiles } from '../spec/user.ts';

/** More accounts than any image has; an endless file must not become our memory. */
const maxAccountBytes = 4 * 1024 * 1024;

/** /etc/passwd and /etc/group of the container; empty where the image has none. Fault 'invalid' when one is no file or far too long. */
export function readAccounts(rootfs: string): AccountFiles {
  const rootFd = openSync(rootfs, constants.O_DIRECTORY | O_PATH);
  try {
    return { passwd: readBeneath(rootFd, 'etc/passwd'), group: readBeneath(rootFd, 'etc/group') };
  } finally {
    closeSync(rootFd);
  }
}

function readBeneath(rootFd: number, path: string): string {
  let fd: number;
  try {
    // Non-blocking: it might be a FIFO.
    fd = openInRoot(rootFd, path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return '';
    throw error;
  }
  try {
    const { size } = fstatSync(fd);
    if (!fstatSync(fd).isFile()) throw new Fault('invalid', `/${path} of the image is not a file`);
    if (size > maxAccountBytes) throw new Fault('invalid', `/${path} of the image is too long (${size} bytes)`);
    const text = Buffer.alloc(size);
    return text.toString('utf8', 0, readSync(fd, text, 0, size, 0));
  } finally {
    closeSync(fd);
  }
}

export interface VolumeBind {
  readonly containerPath: string;
  readonly source: string;
}

/**
 * The image's VOLUMEs that no mount of the config covers. Their directories are made if the image forgot them. In a writable root that is all,
 * for what is written there lives as long as the container anyway; in a read-only root each is bound over itself, writable.
 */
export function prepareVolumes(rootfs: string, request: { volumes: readonly string[]; mounts: readonly Mount[]; readonlyRootfs: boolean; owner: Owner }): VolumeBind[] {
  const taken = new Set(request.mounts.map(({ containerPath }) => join('/', containerPath)));
  const wanted = request.volumes.map((path) => join('/', path)).filter((path) => path !== '/' && !taken.has(path));
  if (wanted.length === 0) return [];
  const rootFd = openSync(rootfs, constants.O_DIRECTORY | O_PATH);
  try {
    const binds = wanted.map((containerPath) => ({ containerPath, source: ensureDirectory(rootFd, containerPath, request.owner) }));
    return request.readonlyRootfs ? binds : [];
  } finally {
    closeSync(rootFd);
  }
}

/** The real path on the host of a directory beneath the root, made with its parents if it is missing. */
function ensureDirectory(rootFd: number, path: string, owner: Owner): string {
  const fd = openDirectory(rootFd, path, owner);
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } finally {
    closeSync(fd);
  }
}

function openDirectory(rootFd: number, path: string, owner: Owner): number {
  try {
    return openInRoot(rootFd, path, constants.O_DIRECTORY | O_PATH);
  } catch (error) {
    if (isErrno(error, 'ENOTDIR', 'ELOOP')) throw new Fault('invalid', `volume ${path} of the image is not a directory`, error);
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  const parentFd = openDirectory(rootFd, dirname(path), owner);
  try {
    mkdirAt(parentFd, basename(path), 0o755);
    chownAt(parentFd, basename(path), owner.uid, owner.gid);
  } catch (error) {
    // A dangling link has the name: there is no directory to be had.
    if (isErrno(error, 'EEXIST')) throw new Fault('invalid', `volume ${path} of the image is not a directory`, error);
    throw error;
  } finally {
    closeSync(parentFd);
  }
  return openInRoot(rootFd, path, constants.O_DIRECTORY | O_PATH);
}
