/** Removes a directory, and never anything that is mounted below it. */
import { rm } from 'node:fs/promises';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { unmount } from './mount.ts';
import { mountsBelow } from './mountinfo.ts';

/**
 * Unmounts (lazily) whatever is mounted at or below `path`, last made first, then removes the tree. Absent is success: may run twice.
 * Refuses with Fault internal while a mount is still there, rather than empty somebody's file system.
 */
export async function removeTree(path: string): Promise<void> {
  for (const { mountPoint } of (await mountsBelow(path)).toReversed()) await unmount(mountPoint, { lazy: true });
  const left = await mountsBelow(path);
  if (left.length > 0) throw new Fault('internal', `remove ${path}: ${left[0]?.mountPoint ?? ''} is still mounted`);
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
