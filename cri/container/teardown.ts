/**
 * The one way in which a container's resources go: used by a creation that failed, by RemoveContainer and at start-up. Walks the record's list
 * backwards; what is gone already counts as done, so it may run twice and after a kill. The list itself stays as it is: the record is deleted next.
 */
import { readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { isAlive, type ProcessId, signalProcess, whenGone } from '#host/process.ts';
import { removeTree } from '#host/remove-tree.ts';
import { type MonitorPaths, recordedMonitor, removeMonitor } from '../oci/conmon.ts';
import { deleteContainer, type OciRuntime } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { OwnedResource } from '../state/owned-resource.ts';
import type { CriPaths } from '../state/paths.ts';
import { imageVolumesDir } from './image-volumes.ts';

export interface TeardownDeps {
  readonly paths: Pick<CriPaths, 'ociRootDir'>;
  readonly monitor: Pick<MonitorPaths, 'socketsDir'>;
  readonly containers: Pick<ContainerStore, 'find'>;
  readonly cgroups: Pick<Cgroups, 'kill' | 'remove'>;
  /** All that are configured now. */
  readonly runtimes: () => readonly OciRuntime[];
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
}

async function undo(ctx: Ctx, deps: TeardownDeps, record: ContainerRecord, resource: OwnedResource): Promise<void> {
  switch (resource.kind) {
    case 'oci':
      return endAndForget(ctx, deps, record, resource.handler);
    case 'cgroup':
      return deps.cgroups.remove(ctx, resource.path);
    case 'rootfs':
      await removeTree(imageVolumesDir(resource.dir));
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
  const { id, bundleDir, cgroupPath, monitor: known } = record;
  const monitor = known ?? (await recordedMonitor({ id, bundleDir }));
  // Of a creation that was cut short: its runtime dies with the monitor (PDEATHSIG), and what it began is in the group.
  if (known === undefined && monitor !== undefined) await end(ctx, monitor);
  if (record.process !== undefined && signalProcess(record.process, 'SIGKILL')) await whenGone(ctx, record.process);
  await deps.cgroups.kill(ctx, cgroupPath);
  if (monitor !== undefined && isAlive(monitor)) await end(ctx, monitor, monitorEndMs);
  await removeMonitor(deps.monitor, id, undefined);
  await forget(ctx, deps, { id, handler });
}

async function end(ctx: Ctx, monitor: ProcessId, graceMs = 0): Promise<void> {
  if (graceMs > 0) {
    try {
      return await whenGone(withTimeout(ctx, graceMs), monitor);
    } catch {
      ctx.signal.throwIfAborted();
    }
  }
  signalProcess(monitor, 'SIGKILL');
  await whenGone(ctx, monitor);
}

/** With cgroupfs the runtime's notes are a directory and nothing else; with systemd it also has a unit to end. */
async function forget(ctx: Ctx, deps: TeardownDeps, container: { id: string; handler: string }): Promise<void> {
  const runtime = deps.runtimes().find(({ name }) => name === container.handler);
  if (runtime?.cgroupDriver === 'systemd') await deleteContainer(ctx, runtime, container.id);
  await rm(join(deps.paths.ociRootDir(container.handler), container.id), { recursive: true, force: true });
}

/**
 * A container's directory without a readable record: what it says about itself is in config.json and in the monitor's pid file. May run twice.
 */
export async function removeOrphan(ctx: Ctx, deps: TeardownDeps, dir: string): Promise<void> {
  const id = basename(dir);
  const monitor = await recordedMonitor({ id, bundleDir: dir });
  if (monitor !== undefined) await end(ctx, monitor);
  const cgroupPath = await cgroupOf(dir);
  if (cgroupPath !== undefined) {
    await deps.cgroups.kill(ctx, cgroupPath);
    await deps.cgroups.remove(ctx, cgroupPath);
  }
  await removeMonitor(deps.monitor, id, undefined);
  for (const { name } of deps.runtimes()) await forget(ctx, deps, { id, handler: name });
  await removeTree(imageVolumesDir(dir));
  await deps.removeRootfs(ctx, dir);
  await removeTree(dir);
}

/** From config.json; undefined when there is none yet or it is in the systemd driver's notation (the runtime's own delete knows that). */
async function cgroupOf(dir: string): Promise<string | undefined> {
  try {
    const spec: unknown = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'));
    const linux = typeof spec === 'object' && spec !== null && 'linux' in spec ? spec.linux : undefined;
    const path = typeof linux === 'object' && linux !== null && 'cgroupsPath' in linux ? linux.cgroupsPath : undefined;
    return typeof path === 'string' && path.startsWith('/') && path.endsWith(basename(dir)) ? path : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
