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

/**
 * The controllers in whose hierarchy a process is in a group, as /proc/PID/cgroup (cgroups(7)) tells: there a service manager may hold it. The
 * unified hierarchy has an empty name.
 */
export const heldBy = (procCgroup: string): string[] =>
  procCgroup.split('\n').flatMap((line) => {
    const [, controllers, ...path] = line.split(':');
    return controllers === undefined || path.join(':') === '/' ? [] : controllers.split(',');
  });

/** The function that moves a monitor there, or undefined where it may stay with us. */
export async function monitorPlacement(cgroups: Pick<Cgroups, 'create' | 'attach'>): Promise<((pid: number) => Promise<void>) | undefined> {
  const controllers = heldBy(await readFile('/proc/self/cgroup', 'utf8'));
  if (controllers.length === 0) return undefined;
  await cgroups.create(monitorGroup);
  return async (pid) => {
    try {
      await cgroups.attach(monitorGroup, pid, { controllers }).catch(async (error: unknown) => {
        if (!isFault(error, 'not-found') && !isFault(error, 'precondition')) throw error;
        await cgroups.create(monitorGroup); // another nodelet of this machine was wiped, or is making it again at this moment
        await cgroups.attach(monitorGroup, pid, { controllers });
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
