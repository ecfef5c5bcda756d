/** A file that need not be there. */
import { readFile } from 'node:fs/promises';
import { isErrno } from './errno.ts';

/** Its text; undefined when it is absent. `alsoAbsent` are errors that mean the same where the caller looks (ESRCH below /proc). */
export async function readIfThere(path: string, ...alsoAbsent: readonly string[]): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', ...alsoAbsent)) return undefined;
    throw error;
  }
}
