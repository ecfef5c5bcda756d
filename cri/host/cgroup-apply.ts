/** Several settings of a group, all of them or none. */
import { join } from 'node:path';
import { readCgroupFile, writeCgroupFile, writeSetting } from './cgroup-files.ts';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';

export interface PlacedSetting {
  /** Of the group, in the hierarchy that has the file. */
  readonly directory: string;
  readonly file: string;
  readonly value: string;
}

/** When the kernel refuses one, those that were written get their old values back, as far as it takes them, and the refusal is thrown. */
export async function applySettings(settings: readonly PlacedSetting[]): Promise<void> {
  const paths = settings.length > 1 ? settings.map(({ directory, file }) => join(directory, file)) : [];
  const before = await Promise.all(paths.map(async (path) => ({ path, value: await readCgroupFile(path) })));
  try {
    await writeInSomeOrder(settings);
  } catch (cause) {
    const old = before.flatMap(({ path, value }) => (value === undefined || value.trim().includes('\n') ? [] : [{ path, value: value.trim() }]));
    // Twice, for the same reason as below.
    for (const { path, value } of [...old, ...old]) await writeCgroupFile(path, `${value}\n`).catch(() => undefined);
    throw cause;
  }
}

/**
 * Period and quota, memory and memory+swap bound each other: which order the kernel takes depends on the old values. What it refuses is tried once more
 * after the others.
 */
async function writeInSomeOrder(settings: readonly PlacedSetting[]): Promise<void> {
  const again: PlacedSetting[] = [];
  for (const setting of settings) {
    try {
      await writeSetting(setting.directory, setting);
    } catch (error) {
      if (!(error instanceof Fault) || !isErrno(error.cause, 'EINVAL')) throw error;
      again.push(setting);
    }
  }
  for (const setting of again) await writeSetting(setting.directory, setting);
}
