/** StartContainer: the created process runs its program. Returns when it runs; one that ends at once is still started (CRI api.proto). */
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault } from '#host/fault.ts';
import { signalProcess } from '#host/process.ts';
import type { Nri } from '../nri/nri.ts';
import { type OciRuntime, startContainer as start } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface StartDeps {
  readonly containers: ContainerStore;
  readonly sandboxes: Pick<SandboxStore, 'find'>;
  readonly lock: KeyedLock<ContainerId>;
  readonly nri: Pick<Nri, 'enter' | 'startContainer' | 'postStartContainer'>;
  /** By the real name of a handler, as in the record. */
  readonly runtimeOf: (handler: string) => OciRuntime;
}

/** What the kubelet shows for a container whose program could not be started. */
const startErrorCode = 128;

/** Fault 'not-found', or 'precondition' when it is not in state created or its sandbox is not ready. A failed start leaves it exited with reason StartError. */
export async function startContainer(ctx: Ctx, deps: StartDeps, idOrPrefix: string): Promise<void> {
  const { id } = deps.containers.get(idOrPrefix);
  using _ = await deps.lock.hold(id);
  const record = deps.containers.get(id);
  if (record.state.name !== 'created') throw new Fault('precondition', `container ${id} is ${record.state.name}, not created`);
  if (deps.sandboxes.find(record.sandboxId)?.state.name !== 'ready') throw new Fault('precondition', `container ${id}: its sandbox is not ready`);
  using _entered = await deps.nri.enter();
  try {
    await deps.nri.startContainer(ctx, record);
    await start(ctx, deps.runtimeOf(record.runtimeHandler), id);
  } catch (error) {
    await failed(deps, record, error);
    throw error;
  }
  await deps.nri.postStartContainer(ctx, await deps.containers.update(id, { type: 'started', atNs: nowNs() }));
}

/** Told before the kill: the first exit that a record hears of stays. */
async function failed(deps: StartDeps, record: ContainerRecord, error: unknown): Promise<void> {
  await deps.containers.update(record.id, { type: 'exited', atNs: nowNs(), exitCode: startErrorCode, reason: 'StartError', message: explain(error) });
  if (record.process !== undefined) signalProcess(record.process, 'SIGKILL');
}
