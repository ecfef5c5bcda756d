/** The cgroup driver that the groups of pods were made with: the runtime says it, and at a wipe there may be no runtime to ask. */
import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '#host/atomic-file.ts';
import { isErrno } from '#host/errno.ts';
import type { CgroupDriver } from './names.ts';

/** Before the first group is made. */
export const keepDriver = (file: string, driver: CgroupDriver): Promise<void> => writeFileAtomic(file, `${driver}\n`);

/** Undefined when no group was ever made. */
export async function keptDriver(file: string): Promise<CgroupDriver | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim() === 'systemd' ? 'systemd' : 'cgroupfs';
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
