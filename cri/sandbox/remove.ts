/** RemovePodSandbox: stops what still runs, removes its containers, forgets it. Unknown is success (CRI api.proto). */
import { type Ctx, detached } from '#host/ctx.ts';
import type { Nri } from '../nri/nri.ts';
import type { ContainerId } from '../state/ids.ts';
import { stopHeld, type StopDeps, stoppingTimeoutMs } from './stop.ts';

export interface RemoveDeps extends StopDeps {
  readonly nri: Pick<Nri, 'enter' | 'stopPodSandbox' | 'removePodSandbox'>;
  readonly removeContainer: (ctx: Ctx, id: ContainerId) => Promise<void>;
}

/** May run twice, also at once. After a failure the record is still there, and the next call goes on. */
export async function removePodSandbox(ctx: Ctx, deps: RemoveDeps, idOrPrefix: string): Promise<void> {
  const found = deps.sandboxes.find(idOrPrefix);
  if (found === undefined) return;
  using _ = await deps.lock.hold(found.id);
  const own = detached(ctx, stoppingTimeoutMs);
  await stopHeld(own, deps, found.id);
  await Promise.all(deps.containersOf(found.id).map((container) => deps.removeContainer(own, container)));
  using _entered = await deps.nri.enter();
  await deps.nri.removePodSandbox(own, deps.sandboxes.get(found.id));
  await deps.sandboxes.delete(found.id);
  ctx.log.info({ sandbox: found.id }, 'sandbox removed');
}
