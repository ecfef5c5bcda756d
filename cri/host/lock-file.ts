/** A lock between processes: flock(2) on a file that stays; the kernel frees it when its holder dies. */
import { closeSync, constants, openSync } from 'node:fs';
import { tryLock } from './libc.ts';

/** Undefined while somebody else (or another part of this process) holds it. */
export function lockFile(path: string): Disposable | undefined {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let isOpen = true;
  const free = (): void => {
    if (isOpen) closeSync(fd);
    isOpen = false;
  };
  try {
    if (tryLock(fd)) return { [Symbol.dispose]: free };
  } catch (error) {
    free();
    throw error;
  }
  free();
  return undefined;
}
