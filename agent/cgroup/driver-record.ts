/** The cgroup driver that the groups of pods were made with: the runtime says it, and at a wipe there may be no runtime to ask. */
import { writeFileAtomic } from '#host/atomic-file.ts';
import { readIfThere } from '#host/read-if-there.ts';
import type { CgroupDriver } from './names.ts';

/** Before the first group is made. */
export const keepDriver = (file: string, driver: CgroupDriver): Promise<void> => writeFileAtomic(file, `${driver}\n`);

/** Undefined when no group was ever made. */
export async function keptDriver(file: string): Promise<CgroupDriver | undefined> {
  const text = await readIfThere(file);
  return text === undefined ? undefined : text.trim() === 'systemd' ? 'systemd' : 'cgroupfs';
}
