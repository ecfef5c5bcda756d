/**
 * The one way in which a container's resources go: used by a creation that failed, by RemoveContainer and at start-up. Walks the record's list
 * backwards; what is gone already counts as done, so it may run twice and after a kill. The list itself stays as it is: the record is deleted next.
 */
import { basename } from 'node:path';
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { endMarkedPrograms } from '#host/marked-programs.ts';
import { isAlive, type ProcessId, signalProcess, whenGone } from '#host/process.ts';
import { removeTree } from '#host/remove-tree.ts';
import { cgroupInBundle } from '../oci/bundle.ts';
import { type MonitorPaths, removeMonitorFiles } from '../oci/conmon.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { OwnedResource } from '../state/owned-resource.ts';
import { ownMountsDir } from './image-volumes.ts';

export interface TeardownDeps {
  readonly monitor: Pick<MonitorPaths, 'socketsDir' | 'exitsDir'>;
  readonly containers: Pick<ContainerStore, 'find'>;
  readonly cgroups: Pick<Cgroups, 'kill' | 'remove'>;
  /** All that are configured now. */
  readonly runtimes: () => readonly Pick<OciRuntime, 'name'>[];
  /** Takes a runtime's notes away; absent is success. */
  readonly forget: (ctx: Ctx, container: { id: string; handler: string }) => Promise<void>;
  readonly removeRootfs: (ctx: Ctx, dir: string) => Promise<void>;
}

/** A monitor needs a millisecond to note the exit code and end; it is not waited for much longer. */
const monitorEndMs = 2000;

/** Throws at the first thing that cannot be undone; the next call goes on from there. */
export async function teardownContainer(ctx: Ctx, deps: TeardownDeps, id: ContainerId): Promise<void> {
  const record = deps.containers.find(id);
  if (record === undefined) return;
  for (const resource of record.owns.toReversed()) {
    try {
      await undo(ctx, deps, record, resource);
    } catch (cause) {
      throw new Fault('internal', `container ${id}: cannot remove its ${resource.kind}`, cause);
    }
  }
  await removeMonitorFiles(deps.monitor, id);
}

async function undo(ctx: Ctx, deps: TeardownDeps, record: ContainerRecord, resource: OwnedResource): Promise<void> {
  switch (resource.kind) {
    case 'oci':
      return endAndForget(ctx, deps, record, resource.handler);
    case 'cgroup':
      return deps.cgroups.remove(ctx, resource.path);
    case 'rootfs':
      await removeTree(ownMountsDir(resource.dir));
      return deps.removeRootfs(ctx, resource.dir);
    case 'mount':
    case 'namespaces':
    case 'network':
      throw new Fault('internal', `a container does not own a ${resource.kind}`);
    default:
      return resource satisfies never;
  }
}

/** Kills what runs, in the order in which nothing new can come: first process, the rest of the group, the monitor; then the runtime's notes. */
async function endAndForget(ctx: Ctx, deps: TeardownDeps, record: ContainerRecord, handler: string): Promise<void> {
  const { id, cgroupPath, monitor } = record;
  // A creation that was cut short: its monitor and its runtime may still be at it, and what they began is in the group.
  if (monitor === undefined) await endMarkedPrograms(ctx, id);
  if (record.process !== undefined && signalProcess(record.process, 'SIGKILL')) await whenGone(ctx, record.process);
  await deps.cgroups.kill(ctx, cgroupPath);
  if (monitor !== undefined && isAlive(monitor)) await endMonitor(ctx, monitor);
  await deps.forget(ctx, { id, handler });
}

/** Its container is gone: it notes the exit code and ends by itself, or is ended. */
async function endMonitor(ctx: Ctx, monitor: ProcessId): Promise<void> {
  try {
    return await whenGone(withTimeout(ctx, monitorEndMs), monitor);
  } catch {
    ctx.signal.throwIfAborted();
  }
  signalProcess(monitor, 'SIGKILL');
  await whenGone(ctx, monitor);
}

/** A container's directory without a readable record: what it says about itself is in config.json, and its monitor carries its id. May run twice. */
export async function removeOrphan(ctx: Ctx, deps: TeardownDeps, dir: string): Promise<void> {
  const id = basename(dir);
  await endMarkedPrograms(ctx, id);
  const cgroupPath = await cgroupInBundle(dir, id);
  if (cgroupPath !== undefined) {
    await deps.cgroups.kill(ctx, cgroupPath);
    await deps.cgroups.remove(ctx, cgroupPath);
  }
  await removeMonitorFiles(deps.monitor, id);
  for (const { name } of deps.runtimes()) await deps.forget(ctx, { id, handler: name });
  await removeTree(ownMountsDir(dir));
  await deps.removeRootfs(ctx, dir);
  await removeTree(dir);
}
