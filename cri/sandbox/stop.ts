/** StopPodSandbox: its containers are killed, its network and namespaces go. Unknown or stopped is success (CRI api.proto). */
import { type Ctx, detached } from '#host/ctx.ts';
import type { Nri } from '../nri/nri.ts';
import type { Flights } from '../state/flights.ts';
import type { ContainerId, SandboxId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface StopDeps {
  readonly sandboxes: SandboxStore;
  readonly lock: KeyedLock<SandboxId>;
  readonly flights: Pick<Flights<SandboxId>, 'forget'>;
  readonly containersOf: (id: SandboxId) => readonly ContainerId[];
  /** StopContainer with a grace of 0; one that is being made is waited for. */
  readonly killContainer: (ctx: Ctx, id: ContainerId) => Promise<void>;
  readonly nri: Pick<Nri, 'stopPodSandbox'>;
  readonly teardown: (ctx: Ctx, id: SandboxId) => Promise<void>;
}

/** Longest that stopping may take, whatever the caller's deadline: a call that is repeated finds it done, or waits for it. */
export const stoppingTimeoutMs = 5 * 60_000;

/** May run twice, also at once. After a failure the next call goes on where this one ended. */
export async function stopPodSandbox(ctx: Ctx, deps: StopDeps, idOrPrefix: string): Promise<SandboxRecord | undefined> {
  const found = deps.sandboxes.find(idOrPrefix);
  if (found === undefined) return undefined;
  using _ = await deps.lock.hold(found.id);
  await stopHeld(detached(ctx, stoppingTimeoutMs), deps, found.id);
  return deps.sandboxes.find(found.id);
}

/** For callers that hold the sandbox's lock. First it is not ready, so that no container is born into it any more. */
export async function stopHeld(ctx: Ctx, deps: StopDeps, id: SandboxId): Promise<void> {
  const before = deps.sandboxes.find(id);
  if (before === undefined) return;
  deps.flights.forget(before.name);
  const { owns } = before.state.name === 'not-ready' ? before : await deps.sandboxes.observe(ctx, id, { type: 'stopped' });
  await Promise.all(deps.containersOf(id).map((container) => deps.killContainer(ctx, container)));
  if (before.state.name === 'ready') await deps.nri.stopPodSandbox(ctx, before);
  if (owns.length > 0) {
    await deps.teardown(ctx, id);
    await deps.sandboxes.observe(ctx, id, { type: 'emptied' });
  }
  if (before.state.name !== 'not-ready') ctx.log.info({ sandbox: id }, 'sandbox stopped');
}
