/** `nodelet wipe`, the agent's half: directories and volumes of its pods, their logs, their control groups. After the CRI's half, which ends the containers. */
import { readlink, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openCgroups } from '#host/cgroup.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, detached } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import { namesIn } from '#host/names-in.ts';
import { removeTree } from '#host/remove-tree.ts';
import { keptDriver } from './cgroup/driver-record.ts';
import { PodCgroups } from './cgroup/manager.ts';
import type { AgentConfig } from './config.ts';
import { agentPaths } from './paths.ts';

/** May run twice. What cannot be removed is thrown after everything else was tried. Logs and groups of pods that are not ours stay: /var/log/pods may be shared. */
export async function wipeAgent(ctx: Ctx, config: AgentConfig): Promise<void> {
  const paths = agentPaths({ root: config.root, podLogsRoot: config.podLogsDir, containerLogsDir: config.containerLogsDir });
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failures.push(error);
    }
  };
  const driver = await keptDriver(paths.cgroupDriverFile);
  const all = openCgroups();
  const cgroups = driver === undefined ? undefined : new PodCgroups(all, { driver, cgroupRoot: config.cgroupRoot });
  for (const uid of await namesIn(paths.podsDir)) {
    await attempt(async () => cgroups?.removePod(detached(ctx), uid));
    for (const name of await namesIn(paths.podLogsRoot)) if (name.endsWith(`_${uid}`)) await attempt(() => removeTree(join(paths.podLogsRoot, name)));
    await attempt(() => removeTree(paths.podDir(uid)));
  }
  await attempt(() => removeDeadLinks(paths.containerLogsDir, paths.podLogsRoot));
  await attempt(async () => {
    if (cgroups === undefined || (await cgroups.list()).length > 0) return;
    await cgroups.removeAll(detached(ctx));
    if (config.cgroupRoot !== '/') await removeEmptyGroup(ctx, all, config.cgroupRoot);
  });
  if (failures.length > 0) throw new Fault('internal', `not everything of the agent could be removed: ${failures.map(explain).join('; ')}`, failures[0]);
  await removeTree(paths.root);
  for (const dir of [paths.podLogsRoot, paths.containerLogsDir]) await removeIfEmpty(dir);
}

/** The root of our groups, if we made it: one that others use has something in it. */
async function removeEmptyGroup(ctx: Ctx, cgroups: Cgroups, path: string): Promise<void> {
  if ((await cgroups.children(path)).length === 0 && (await cgroups.processes(path)).length === 0) await cgroups.remove(detached(ctx), path);
}

/** Directories that other node agents use too. */
async function removeIfEmpty(dir: string): Promise<void> {
  try {
    await rmdir(dir);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY')) throw error;
  }
}

/** Links to logs that are gone, as log shippers follow them. */
async function removeDeadLinks(dir: string, podLogsRoot: string): Promise<void> {
  for (const name of await namesIn(dir)) {
    const link = join(dir, name);
    const target = await readlink(link).catch(() => ''); // not a link: not ours
    if (!target.startsWith(`${podLogsRoot}/`)) continue;
    const [pod = ''] = target.slice(podLogsRoot.length + 1).split('/');
    if (!(await namesIn(podLogsRoot)).includes(pod)) await rm(link, { force: true });
  }
}
