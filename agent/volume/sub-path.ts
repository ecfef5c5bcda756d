/** subPath: binds a path inside a volume to a place of its own, so that no link swapped in later leads the container elsewhere. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import { bind, unmount } from '#host/mount.ts';
import { O_PATH, openBeneath } from '#host/safe-path.ts';

export interface SubPathRequest {
  readonly volumePath: string;
  /** Relative, without `..`. */
  readonly path: string;
  readonly target: string;
}

/** Returns `target`. A missing path becomes a directory with the mode of the volume. May run again: the bind is made anew. */
export async function prepareSubPath(ctx: Ctx, { volumePath, path, target }: SubPathRequest): Promise<string> {
  ctx.signal.throwIfAborted();
  const volumeFd = openSync(volumePath, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const fd = await openOrMake(volumeFd, path);
    try {
      await makeTarget(target, fstatSync(fd).isDirectory());
      await bind({ source: `/proc/self/fd/${fd}`, target, recursive: true });
    } finally {
      closeSync(fd);
    }
    return target;
  } catch (cause) {
    if (isFault(cause, 'invalid')) throw new Fault('invalid', `failed to prepare subPath for volumeMount: subpath ${JSON.stringify(path)} is outside of the volume`, cause);
    throw new Fault('internal', `failed to prepare subPath for volumeMount: ${explain(cause)}`, cause);
  } finally {
    closeSync(volumeFd);
  }
}

async function openOrMake(volumeFd: number, path: string): Promise<number> {
  try {
    return openBeneath(volumeFd, path, O_PATH);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  const mode = fstatSync(volumeFd).mode & 0o7777;
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  for (let count = 1; count <= parts.length; count++) {
    const parentFd = openBeneath(volumeFd, parts.slice(0, count - 1).join('/'), O_PATH | constants.O_DIRECTORY);
    try {
      const made = `/proc/self/fd/${parentFd}/${parts[count - 1] ?? ''}`;
      await mkdir(made, { mode });
      const fd = openBeneath(volumeFd, parts.slice(0, count).join('/'), constants.O_RDONLY | constants.O_DIRECTORY);
      await chmod(`/proc/self/fd/${fd}`, mode).finally(() => closeSync(fd)); // whatever the umask
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    } finally {
      closeSync(parentFd);
    }
  }
  return openBeneath(volumeFd, parts.join('/'), O_PATH);
}

async function makeTarget(target: string, isDirectory: boolean): Promise<void> {
  await unmount(target, { lazy: true });
  await mkdir(isDirectory ? target : dirname(target), { recursive: true, mode: 0o750 });
  if (!isDirectory) await writeFile(target, '', { flag: 'a', mode: 0o640 });
}
