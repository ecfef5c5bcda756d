/** `nodelet wipe`: everything that nodelet made on this machine goes. May be repeated. */
import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { createLog } from '#host/log.ts';
import { agentLockName, lockAgent } from './agent-lock.ts';
import type { Flags } from './flags.ts';
import { loadSettings } from './settings.ts';

/** The CRI's half first: it ends the containers. Refuses while a nodelet runs on these directories. */
export async function wipe(flags: Flags): Promise<number> {
  const { cri, agent, log } = await loadSettings(flags);
  const ctx: Ctx = { signal: new AbortController().signal, log: createLog({ level: flags['log-level'] === undefined ? 'warn' : log.level }) };
  using _ = await lockAgent(agent.root);
  await (await import('../cri/wipe.ts')).wipeCri(ctx, cri);
  await (await import('../agent/wipe.ts')).wipeAgent(ctx, agent, cri.cgroupDriver);
  for (const dir of new Set([cri.rootDir, agent.root])) await removeIfEmpty(dir);
  console.log(`removed everything of nodelet in ${cri.rootDir} and ${cri.stateDir}`);
  return 0;
}

/** With the lock in it still held: whoever waits for that lock finds it gone. */
async function removeIfEmpty(dir: string): Promise<void> {
  await rm(join(dir, agentLockName), { force: true });
  await rmdir(dir).catch((error: unknown) => {
    // Somebody keeps something else there, or it was never made.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY')) throw error;
  });
}
