/** The configuration directory: the first valid file in the order of names is the network, as containerd and CRI-O choose. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { folderOf, isConfFile, parseConfFile, type ConfFile } from './conf.ts';
import type { Network } from './types.ts';

export interface Loaded {
  readonly network: Network | undefined;
  /** What is wrong with the files that come before the chosen one: `FILE: FIELD: what`. */
  readonly problems: readonly string[];
}

/** An absent directory is an empty one. */
export async function loadConfDir(dir: string): Promise<Loaded> {
  const problems: string[] = [];
  for (const name of (await namesIn(dir)).filter(isConfFile)) {
    try {
      return { network: parseConfFile(await readConf(dir, name)), problems };
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'EISDIR')) continue;
      if (error instanceof Fault) problems.push(error.message);
      else if (isErrno(error, 'EACCES', 'EIO', 'ELOOP')) problems.push(`${join(dir, name)}: ${String(error)}`);
      else throw error;
    }
  }
  return { network: undefined, problems };
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).toSorted();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

async function readConf(dir: string, name: string): Promise<ConfFile> {
  const file: ConfFile = { path: join(dir, name), text: await readFile(join(dir, name), 'utf8') };
  const folder = folderOf(file);
  if (folder === undefined) return file;
  const inside = (await namesIn(join(dir, folder))).filter((entry) => entry.endsWith('.conf'));
  const more = await Promise.all(inside.map(async (entry) => ({ path: join(dir, folder, entry), text: await readFile(join(dir, folder, entry), 'utf8') })));
  return { ...file, more };
}
