/** What is in a directory that may not be there. */
import { readdir } from 'node:fs/promises';
import { isErrno } from './errno.ts';

/** The names directly in `dir`; none when it is absent. */
export async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
