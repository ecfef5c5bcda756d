/** At start-up: commands of execs that an earlier daemon had to leave. Nobody reads what they write or wants their exit code. */
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { identify } from '#host/process.ts';
import { takeLeftoverExecs } from '../oci/exec.ts';
import type { ContainerStore } from '../state/container-store.ts';
import { killTree } from './kill-tree.ts';

/** Kills them with their descendants. A process that is not in the group of its container is somebody else. May run twice. */
export async function killLeftoverExecs(ctx: Ctx, deps: { containers: Pick<ContainerStore, 'find'>; cgroups: Pick<Cgroups, 'processes'>; scratchDir: string }): Promise<void> {
  for (const { containerId, process } of takeLeftoverExecs(deps.scratchDir)) {
    const record = deps.containers.find(containerId);
    const id = identify(process.pid);
    if (record?.state.name !== 'running' || id === undefined || id.pid === record.process?.pid) continue;
    if (process.startTicks !== 0 && process.startTicks !== id.startTicks) continue;
    if (!(await deps.cgroups.processes(record.cgroupPath, { recursive: true })).includes(id.pid)) continue;
    ctx.log.info({ container: containerId, pid: id.pid }, 'killing a command that outlived the daemon it was started by');
    await killTree(deps.cgroups, record.cgroupPath, id);
  }
}
