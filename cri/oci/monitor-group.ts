/**
 * The control group of the monitors. A service manager that stops us kills what is in our own group; containers must outlive that, so their
 * monitors move to a group of ours at the root of the hierarchy. All share one: nothing is limited or counted in it.
 */
import { readFile } from 'node:fs/promises';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { isFault } from '#host/fault.ts';

/** Stays when we end: it has processes in it. */
const monitorGroup = '/nodelet-monitors';

/** Whether a process is at the root of every hierarchy, as /proc/PID/cgroup (cgroups(7)) tells: then no service manager holds it. */
export const isAtRoot = (procCgroup: string): boolean => procCgroup.split('\n').every((line) => line === '' || line.split(':').slice(2).join(':') === '/');

/** The function that moves a monitor there, or undefined where it may stay with us. */
export async function monitorPlacement(cgroups: Pick<Cgroups, 'create' | 'attach'>): Promise<((pid: number) => Promise<void>) | undefined> {
  if (isAtRoot(await readFile('/proc/self/cgroup', 'utf8'))) return undefined;
  await cgroups.create(monitorGroup);
  return async (pid) => {
    try {
      await cgroups.attach(monitorGroup, pid).catch(async (error: unknown) => {
        if (!isFault(error, 'not-found')) throw error;
        await cgroups.create(monitorGroup); // another nodelet of this machine was wiped
        await cgroups.attach(monitorGroup, pid);
      });
    } catch (error) {
      // It ended at once: what it has to say about that comes by its pipe.
      if (!isErrno(error, 'ESRCH') && !(error instanceof Error && isErrno(error.cause, 'ESRCH'))) throw error;
    }
  };
}

/** How long monitors may take to end after their containers. */
const monitorsEndMs = 2000;

/** For a wipe: the group goes unless monitors of another nodelet are in it. */
export async function removeMonitorGroup(ctx: Ctx, cgroups: Pick<Cgroups, 'remove'>): Promise<void> {
  try {
    await cgroups.remove(ctx, monitorGroup, { waitMs: monitorsEndMs });
  } catch (error) {
    if (!isFault(error, 'timeout')) throw error;
  }
}
