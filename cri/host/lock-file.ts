/** Locks between processes: flock(2) on a file or a directory; the kernel frees them when their holder dies, in whatever container it ran. */
import { closeSync, constants, openSync } from 'node:fs';
import { tryLock } from './libc.ts';

/** The file is made if it is not there, and stays. Undefined while somebody else (or another part of this process) holds it. */
export const lockFile = (path: string): Disposable | undefined => lock(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600));

/** The same for a directory that is there; Node's ENOENT when it is not. */
export const lockDirectory = (path: string): Disposable | undefined => lock(openSync(path, constants.O_DIRECTORY));

function lock(fd: number): Disposable | undefined {
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
