/** StopPodSandbox: its containers are killed, its network and namespaces go. Unknown or stopped is success (CRI api.proto). */
import type { Ctx } from '#host/ctx.ts';
import type { Nri } from '../nri/nri.ts';
import type { ContainerId, SandboxId } from '../state/ids.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';

export interface StopDeps {
  readonly sandboxes: SandboxStore;
  readonly lock: KeyedLock<SandboxId>;
  readonly containersOf: (id: SandboxId) => readonly ContainerId[];
  /** StopContainer with a grace of 0. */
  readonly killContainer: (ctx: Ctx, id: ContainerId) => Promise<void>;
  readonly nri: Pick<Nri, 'stopPodSandbox'>;
  readonly teardown: (ctx: Ctx, id: SandboxId) => Promise<void>;
}

/** May run twice, also at once. After a failure the next call goes on where this one ended. */
export async function stopPodSandbox(ctx: Ctx, deps: StopDeps, idOrPrefix: string): Promise<SandboxRecord | undefined> {
  const found = deps.sandboxes.find(idOrPrefix);
  if (found === undefined) return undefined;
  using _ = await deps.lock.hold(found.id);
  await stopHeld(ctx, deps, found.id);
  return deps.sandboxes.find(found.id);
}

/** For callers that hold the sandbox's lock. */
export async function stopHeld(ctx: Ctx, deps: StopDeps, id: SandboxId): Promise<void> {
  const record = deps.sandboxes.find(id);
  if (record === undefined) return;
  await Promise.all(deps.containersOf(id).map((container) => deps.killContainer(ctx, container)));
  if (record.state.name === 'ready') await deps.nri.stopPodSandbox(ctx, record);
  if (record.owns.length > 0) await deps.teardown(ctx, id);
  if (record.state.name === 'not-ready') return;
  await deps.sandboxes.update(id, { type: 'stopped' });
  ctx.log.info({ sandbox: id }, 'sandbox stopped');
}
