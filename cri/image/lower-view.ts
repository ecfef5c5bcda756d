/**
 * What lies at a path in the layers below, seen as overlayfs would merge them: whiteouts and opaque directories hide what is under them.
 * Synchronous, for worker threads.
 */
import { lstatSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { Directory } from '#host/directory.ts';

export interface LowerEntry {
  /** Where the topmost of them is. */
  readonly path: string;
  readonly stats: BigIntStats;
}

export const opaqueXattr = 'trusted.overlay.opaque';

/** A character device 0/0. */
const isWhiteout = (stats: BigIntStats): boolean => stats.isCharacterDevice() && stats.rdev === 0n;

function isOpaque(path: string): boolean {
  using directory = Directory.open(path);
  const value = directory.getXattr('.', opaqueXattr);
  return value !== undefined && value[0] === 0x79;
}

/** `lowers` topmost first; `components` without `.`, `..` and empty ones. The layers are finished, so nothing changes while this looks. */
export function lookUpLower(lowers: readonly string[], components: readonly string[]): LowerEntry | undefined {
  let directories = lowers;
  let found: LowerEntry | undefined;
  if (components.length === 0) return lowers[0] === undefined ? undefined : { path: lowers[0], stats: lstatSync(lowers[0], { bigint: true }) };
  for (const component of components) {
    const next: string[] = [];
    found = undefined;
    for (const directory of directories) {
      const path = join(directory, component);
      const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) continue;
      if (isWhiteout(stats)) break;
      if (!stats.isDirectory()) {
        if (found === undefined) found = { path, stats };
        break;
      }
      found ??= { path, stats };
      next.push(path);
      if (isOpaque(path)) break;
    }
    if (found === undefined) return undefined;
    directories = next;
  }
  return found;
}
