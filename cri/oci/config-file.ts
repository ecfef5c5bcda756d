/** The config.json of a bundle. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere } from '#host/read-if-there.ts';
import { readSpec, writeSpec } from './spec-json.ts';
import type { OciSpec } from './spec-types.ts';

const fileOf = (bundleDir: string): string => join(bundleDir, 'config.json');

export const writeConfigFile = (bundleDir: string, spec: OciSpec): Promise<void> => writeFile(fileOf(bundleDir), writeSpec(spec), { mode: 0o600 });

/** Undefined while there is none. */
export async function readConfigFile(bundleDir: string): Promise<OciSpec | undefined> {
  const text = await readIfThere(fileOf(bundleDir));
  return text === undefined ? undefined : readSpec(text);
}
