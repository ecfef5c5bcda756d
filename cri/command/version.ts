/** `nodelet version`: of nodelet, and of what it stands on. */
import { release } from 'node:os';
import { createLog } from '#host/log.ts';
import { findVersion } from '../check/program.ts';

/** Reads no configuration: who asks for versions may have a broken one. */
export async function printVersion(version: string): Promise<number> {
  const ctx = { signal: new AbortController().signal, log: createLog({ level: 'silent' }) };
  const programs = await Promise.all(['crun', 'runc', 'conmon', 'catatonit', 'iptables'].map((name) => findVersion(ctx, name)));
  console.log(`nodelet ${version} (Node ${process.versions.node}, Linux ${release()})`);
  for (const { name, path, version: own } of programs) {
    const found = path === undefined ? 'not installed' : `${/\d\S*/.exec(own)?.[0] ?? 'of no known version'}  ${path}`;
    console.log(`${name.padEnd(9)}  ${found}`);
  }
  return 0;
}
