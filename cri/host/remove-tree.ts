/** Removes a directory, and never anything that is mounted below it. */
import { lstat, rm } from 'node:fs/promises';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { unmount } from './mount.ts';
import { mountsBelow } from './mountinfo.ts';

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/**
 * Unmounts (lazily) whatever is mounted at or below `path`, last made first, then removes the tree. Absent is success: may run twice.
 * Refuses with Fault internal while a mount is still there, rather than empty somebody's file system.
 */
export async function removeTree(path: string): Promise<void> {
  if (!(await exists(path))) return;
  const mounted = await mountsBelow(path);
  for (const { mountPoint } of mounted.toReversed()) await unmount(mountPoint, { lazy: true });
  // The table of mounts is long on a crowded node: read once more only to see that the unmounting worked.
  const [left] = mounted.length === 0 ? [] : await mountsBelow(path);
  if (left !== undefined) throw new Fault('internal', `remove ${path}: ${left.mountPoint} is still mounted`);
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
