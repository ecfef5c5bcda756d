/** One process per root directory: an flock(2) on a file in it, which also says who holds it. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Fault } from '#host/fault.ts';
import { tryLock } from '#host/libc.ts';

/** Holds the lock until disposed, or until the process ends in whatever way. Fault precondition, with the holder's pid, when it is taken. */
export async function lockRoot(file: string): Promise<Disposable> {
  await mkdir(dirname(file), { recursive: true, mode: 0o711 });
  const fd = openSync(file, 'a+', 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    const holder = readFileSync(file, 'utf8').trim();
    throw new Fault('precondition', `${dirname(file)} is in use by nodelet with pid ${holder === '' ? 'unknown' : holder}: stop that first`);
  }
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`);
  return { [Symbol.dispose]: () => closeSync(fd) };
}
