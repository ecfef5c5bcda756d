/** One process per root directory: a lock on a file in it, which also says who holds it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Fault } from '../fault.ts';
import { lockFile } from '../lock-file.ts';

/** Holds the lock until disposed, or until the process ends in whatever way. Fault precondition, with the holder's pid, when it is taken. */
export async function lockRoot(file: string): Promise<Disposable> {
  await mkdir(dirname(file), { recursive: true, mode: 0o711 });
  const lock = lockFile(file);
  if (lock === undefined) {
    const holder = readFileSync(file, 'utf8').trim();
    throw new Fault('precondition', `${dirname(file)} is in use by nodelet with pid ${holder === '' ? 'unknown' : holder}: stop that first`);
  }
  writeFileSync(file, `${process.pid}\n`);
  return lock;
}
