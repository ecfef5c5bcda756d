/** Where the programs are that the tests need, and what happens when one is missing: a skip with a plain reason, under CI=true a failure. */
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { findJudge, groups, judges, judgesDir } from '../../hack/judges/pins.ts';

export const repositoryRoot = path.resolve(import.meta.dirname, '../..');
export const bundle = path.join(repositoryRoot, 'dist/nodelet.js');

/** Program of the machine (crun, conmon, iptables, …) by PATH and the sbin folders. */
export function findSystemProgram(name: string): string | undefined {
  for (const dir of [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/local/sbin'].filter(Boolean)) {
    const file = path.join(dir, name);
    try { accessSync(file, constants.X_OK); return file; } catch { /* not here */ }
  }
  return undefined;
}

/** What a test can need: root, the bundle, a judge or group of judges by name, or a program of the machine. */
export type Need = 'root' | 'bundle' | (string & {});

function missing(need: Need): string | undefined {
  if (need === 'root') return process.getuid?.() === 0 ? undefined : 'it needs root';
  if (need === 'bundle') return existsSync(bundle) ? undefined : 'dist/nodelet.js is not built (npm run build)';
  const names = need in groups ? groups[need as keyof typeof groups].map((each) => each.name) : [need];
  for (const name of names) {
    if (judges.some((each) => each.name === name)) {
      if (findJudge(name) === undefined) return `${name} is not built (npm run judges -- ${need})`;
    } else if (findSystemProgram(name) === undefined) return `${name} is not installed`;
  }
  return undefined;
}

/**
 * Options for node:test: `test('…', needs('root', 'bundle', 'cri'), async () => …)`.
 * Something is missing: the test is skipped and the report says what; under CI=true this throws, which fails the test file.
 */
export function needs(...what: readonly Need[]): { skip: string | false } {
  const reasons = what.map(missing).filter((each) => each !== undefined);
  if (reasons.length === 0) return { skip: false };
  const reason = [...new Set(reasons)].join('; ');
  if (process.env['CI'] === 'true') throw new Error(`nothing may be skipped under CI=true, but ${reason}`);
  return { skip: reason };
}

/** Absolute path of a built judge, e.g. judge('crictl'). Throws when it is not built: call it in tests guarded by `needs`. */
export function judge(name: string): string {
  const file = findJudge(name);
  if (file === undefined) throw new Error(`${name} is not built (npm run judges -- ${name})`);
  return file;
}

export function systemProgram(name: string): string {
  const file = findSystemProgram(name);
  if (file === undefined) throw new Error(`${name} is not installed`);
  return file;
}

/** The folder with the network plugins that were built from their own source. */
export const cniBinDir = (): string => path.join(judgesDir(), 'cni');
