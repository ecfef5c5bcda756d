/**
 * The end of a container: seen by the end of its monitor (a pidfd, which works the same for monitors that an earlier daemon started), told by
 * the exit file that the monitor left, and written into the record. What a dead container has no use for goes at once.
 *
 *   process ends ─▶ monitor writes exits/<id> ─▶ monitor ends ─▶ pidfd ─▶ record: exited ─▶ plugins ─▶ waiters ─▶ group and runtime state removed
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NamespaceMode } from '#cri-api';
import type { Cgroups } from '#host/cgroup-types.ts';
import { nowNs } from '#host/clock.ts';
import { type Ctx, detached } from '#host/ctx.ts';
import { isFault } from '#host/fault.ts';
import { unlessGivenUp } from '#host/give-up.ts';
import { adoptOrphans, reapAdopted } from '#host/orphans.ts';
import { isAlive, signalProcess, whenGone } from '#host/process.ts';
import type { Nri } from '../nri/nri.ts';
import { type MonitorPaths, readExitNote, sawOutOfMemory } from '../oci/conmon.ts';
import { type OciRuntime, stateDir } from '../oci/runtime.ts';
import type { ContainerEvent, ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';

export interface ExitDeps {
  readonly containers: ContainerStore;
  readonly cgroups: Pick<Cgroups, 'details' | 'kill' | 'remove'>;
  readonly runtimeOf: (handler: string) => OciRuntime;
  readonly lock: KeyedLock<ContainerId>;
  readonly monitor: Pick<MonitorPaths, 'socketsDir' | 'exitsDir'>;
  readonly nri: Pick<Nri, 'stopContainer'>;
}

export interface Exits {
  /** Begins to watch a container that is created or running. */
  watch(record: ContainerRecord): void;
  /** At start-up: as `watch`, but an exit that was missed is in the record when this returns. */
  resume(record: ContainerRecord): Promise<void>;
  /** Resolves when the container's end is in its record, at once when it is or when there is no such container; Fault timeout or canceled when given up. */
  exited(ctx: Ctx, id: ContainerId): Promise<void>;
}

/** SIGKILL as a shell would show it: for a container whose own exit code went with its monitor. */
const killedCode = 137;

/** `ctx` is the daemon's: watching ends with it. */
export function watchExits(ctx: Ctx, deps: ExitDeps): Exits {
  // Monitors too: whoever reaps them otherwise may be slow.
  adoptOrphans();
  const ends = new Map<ContainerId, Promise<void>>();
  const follow = (record: ContainerRecord): Promise<void> => {
    const end = recordEnd(ctx, deps, record).finally(() => ends.delete(record.id));
    ends.set(record.id, end);
    end.then(
      () => release(ctx, deps, record),
      (error: unknown) => {
        if (!ctx.signal.aborted) ctx.log.error({ err: error, container: record.id }, 'cannot record the end of a container');
      },
    );
    return end;
  };
  return {
    watch: (record) => void follow(record).catch(() => undefined),
    resume: async (record) => {
      const end = follow(record);
      // Still running: the promise outlives us, and its failure was logged above.
      if (record.monitor !== undefined && isAlive(record.monitor)) void end.catch(() => undefined);
      else await end;
    },
    exited: async (waiting, id) => {
      const end = ends.get(id);
      if (end !== undefined) await unlessGivenUp(waiting, end, `container ${id} has not ended yet`);
    },
  };
}

async function recordEnd(ctx: Ctx, deps: ExitDeps, record: ContainerRecord): Promise<void> {
  if (record.monitor !== undefined) {
    await whenGone(ctx, record.monitor);
    reapAdopted(record.monitor.pid);
  }
  const event = await exitEvent(ctx, deps, record);
  try {
    const ended = await deps.containers.observe(ctx, record.id, event);
    const { state } = ended;
    if (state.name === 'exited') ctx.log.info({ container: record.id, exitCode: state.exitCode, reason: state.reason }, 'container exited');
    await deps.nri.stopContainer(ctx, ended);
  } catch (error) {
    // Removed meanwhile.
    if (!isFault(error, 'not-found')) throw error;
  }
}

type ExitedEvent = Extract<ContainerEvent, { type: 'exited' }>;

async function exitEvent(ctx: Ctx, deps: ExitDeps, record: ContainerRecord): Promise<ExitedEvent> {
  const note = await readExitNote(deps.monitor, record.id);
  if (note === undefined) {
    await killLeftover(ctx, deps, record);
    return { type: 'exited', atNs: nowNs(), exitCode: killedCode, reason: 'ContainerStatusUnknown', message: 'the monitor of the container ended without an exit code; the container was killed' };
  }
  const wasOutOfMemory = (await sawOutOfMemory(record.bundleDir)) || ((await deps.cgroups.details(record.cgroupPath)).oomKills ?? 0) > 0;
  const reason = wasOutOfMemory ? 'OOMKilled' : note.exitCode === 0 ? 'Completed' : 'Error';
  return { type: 'exited', atNs: note.atNs, exitCode: note.exitCode, reason, message: '' };
}

/** Without its monitor nobody would see the container's end, keep its output or free its pipes. */
async function killLeftover(ctx: Ctx, deps: ExitDeps, record: ContainerRecord): Promise<void> {
  if (record.process !== undefined && signalProcess(record.process, 'SIGKILL')) await whenGone(detached(ctx), record.process);
  await deps.cgroups.kill(detached(ctx), record.cgroupPath);
}

/** True when other processes of the container may outlive its first one. */
export const sharesPids = (record: ContainerRecord): boolean => record.config.linux?.securityContext?.namespaceOptions?.pid !== NamespaceMode.CONTAINER;

/** Frees what only a living container needs. */
async function release(ctx: Ctx, deps: ExitDeps, record: ContainerRecord): Promise<void> {
  try {
    using _ = await deps.lock.hold(record.id);
    if (deps.containers.find(record.id) === undefined) return;
    const own = detached(ctx);
    if (sharesPids(record)) await deps.cgroups.kill(own, record.cgroupPath);
    const runtime = deps.runtimeOf(record.runtimeHandler);
    if (runtime.cgroupDriver !== 'cgroupfs') return;
    await deps.cgroups.remove(own, record.cgroupPath);
    await rm(stateDir(runtime, record.id), { recursive: true, force: true });
    await rm(join(deps.monitor.socketsDir, record.id), { force: true });
    await deps.containers.disown(record.id, ...record.owns.filter(({ kind }) => kind === 'oci' || kind === 'cgroup'));
  } catch (error) {
    ctx.log.warn({ err: error, container: record.id }, 'left-overs of an ended container stay until it is removed');
  }
}
