/** StartContainer: the created process runs its program. Returns when it runs; one that ends at once is still started (CRI api.proto). */
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import { isAlive, signalProcess } from '#host/process.ts';
import type { Nri } from '../nri/nri.ts';
import { isStarted, type OciRuntime, startContainer as start } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { Flights } from '../state/flights.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface StartDeps {
  readonly containers: ContainerStore;
  readonly sandboxes: Pick<SandboxStore, 'find'>;
  readonly lock: KeyedLock<ContainerId>;
  readonly flights: Pick<Flights<ContainerId>, 'forget'>;
  readonly nri: Pick<Nri, 'enter' | 'startContainer' | 'postStartContainer'>;
  /** By the real name of a handler, as in the record. */
  readonly runtimeOf: (handler: string) => OciRuntime;
}

/** What the kubelet shows for a container whose program could not be started. */
const startErrorCode = 128;
const maxTries = 3;

/**
 * One that runs is started: the kubelet repeats a request whose answer it did not get. Fault 'not-found', or 'precondition' when it has ended or its
 * sandbox is not ready. A failed start leaves it exited with reason StartError.
 */
export async function startContainer(ctx: Ctx, deps: StartDeps, idOrPrefix: string): Promise<void> {
  const { id, state: stateAtCall } = deps.containers.get(idOrPrefix);
  using _ = await deps.lock.hold(id);
  const record = deps.containers.get(id);
  // Started, and maybe ended, while this call waited for another.
  if (record.state.name === 'running' || (record.state.name === 'exited' && stateAtCall.name === 'created' && record.state.startedAtNs > 0n)) return;
  if (record.state.name !== 'created') throw new Fault('precondition', `container ${id} is ${record.state.name}, not created`);
  if (deps.sandboxes.find(record.sandboxId)?.state.name !== 'ready') throw new Fault('precondition', `container ${id}: its sandbox is not ready`);
  deps.flights.forget(record.name);
  const runtime = deps.runtimeOf(record.runtimeHandler);
  using _entered = await deps.nri.enter();
  try {
    await deps.nri.startContainer(ctx, record);
    await startInsisting(ctx, runtime, record);
  } catch (error) {
    // A runtime that an earlier daemon had called may have come first.
    if (!(await isStarted(ctx, runtime, id).catch(() => false))) {
      await failed(ctx, deps, record, error);
      throw error;
    }
  }
  await deps.nri.postStartContainer(ctx, await deps.containers.observe(ctx, id, { type: 'started', atNs: nowNs() }));
}

/**
 * crun 1.8 says of a created container, once in thousands of starts, that it is not running, while its process waits to be started: it is asked again.
 * Of a program that could not be executed the process is gone.
 */
async function startInsisting(ctx: Ctx, runtime: OciRuntime, { id, process }: ContainerRecord): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await start(ctx, runtime, id);
    } catch (error) {
      if (tries === maxTries || !isFault(error, 'internal') || process === undefined || !isAlive(process)) throw error;
      ctx.log.debug({ err: error, container: id }, 'start failed while the process waits: again');
    }
  }
}

/** Told before the kill: the first exit that a record hears of stays. */
async function failed(ctx: Ctx, deps: StartDeps, record: ContainerRecord, error: unknown): Promise<void> {
  await deps.containers.observe(ctx, record.id, { type: 'exited', atNs: nowNs(), exitCode: startErrorCode, reason: 'StartError', message: explain(error) });
  if (record.process !== undefined) signalProcess(record.process, 'SIGKILL');
}
