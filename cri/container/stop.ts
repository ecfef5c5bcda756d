/**
 * StopContainer: ask, wait, insist. Unknown or exited is success (CRI api.proto: must be idempotent).
 *
 * The stop signal is sent once in a container's life. Each call waits for its own grace, so of several calls the one whose time is up first
 * sends the SIGKILL: a later, shorter grace wins.
 */
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { isFault } from '#host/fault.ts';
import { signalProcess } from '#host/process.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import { type Exits, sharesPids } from './exit.ts';

export interface StopDeps {
  readonly containers: Pick<ContainerStore, 'find'>;
  readonly exits: Pick<Exits, 'exited'>;
  readonly cgroups: Pick<Cgroups, 'kill'>;
  /** Who was asked already; one set for the daemon's life. */
  readonly asked: Set<ContainerId>;
}

/** After SIGKILL. A process that hangs in the kernel is given up here; the next call tries again. */
const killTimeoutMs = 120_000;
/** What a timer can hold; longer is for ever. */
const longestGraceSeconds = 2_000_000;

/** Fault 'timeout' when it does not even die of SIGKILL, 'canceled' when the caller went away (the stop signal stays sent). */
export async function stopContainer(ctx: Ctx, deps: StopDeps, request: { id: string; graceSeconds: number }): Promise<void> {
  const record = deps.containers.find(request.id);
  if (record === undefined || record.state.name === 'exited' || record.process === undefined) {
    // It may have ended after its last caller had given up.
    if (record !== undefined) deps.asked.delete(record.id);
    return;
  }
  const grace = Math.min(request.graceSeconds, longestGraceSeconds);
  // A created one has no program yet that could be asked.
  if (grace > 0 && record.state.name === 'running' && (await endsWhenAsked(ctx, deps, { record, graceMs: grace * 1000 }))) return;
  await kill(ctx, deps, record);
}

/** For the stop of its sandbox, after which nothing is born into that: a container that is being made is waited for, until it is whole or gone. */
export async function killContainer(ctx: Ctx, deps: StopDeps & { readonly lock: KeyedLock<ContainerId> }, id: ContainerId): Promise<void> {
  if (deps.containers.find(id)?.state.name === 'making') (await deps.lock.hold(id))[Symbol.dispose]();
  await stopContainer(ctx, deps, { id, graceSeconds: 0 });
}

async function endsWhenAsked(ctx: Ctx, deps: StopDeps, request: { record: ContainerRecord; graceMs: number }): Promise<boolean> {
  const { record, graceMs } = request;
  if (record.process !== undefined && !deps.asked.has(record.id)) {
    deps.asked.add(record.id);
    signalProcess(record.process, record.stopSignal);
  }
  try {
    await deps.exits.exited(withTimeout(ctx, graceMs), record.id);
    deps.asked.delete(record.id);
    return true;
  } catch (error) {
    if (!isFault(error, 'timeout') || ctx.signal.aborted) throw error;
    return false;
  }
}

async function kill(ctx: Ctx, deps: StopDeps, record: ContainerRecord): Promise<void> {
  if (record.process !== undefined) signalProcess(record.process, 'SIGKILL');
  if (sharesPids(record)) await deps.cgroups.kill(ctx, record.cgroupPath);
  await deps.exits.exited(withTimeout(ctx, killTimeoutMs), record.id);
  deps.asked.delete(record.id);
}
