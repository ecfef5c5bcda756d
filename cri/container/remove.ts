/** RemoveContainer: kills it if it runs, and forgets it. Unknown is success (CRI api.proto: must be idempotent). */
import { type Ctx, detached } from '#host/ctx.ts';
import type { Nri } from '../nri/nri.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { Flights } from '../state/flights.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import { teardownContainer, type TeardownDeps } from './teardown.ts';

export interface RemoveDeps extends TeardownDeps {
  readonly containers: ContainerStore;
  readonly lock: KeyedLock<ContainerId>;
  readonly flights: Pick<Flights<ContainerId>, 'forget'>;
  readonly nri: Pick<Nri, 'enter' | 'removeContainer'>;
  /** Resolves when the end of a container that has ended is told to everybody. */
  readonly told: (ctx: Ctx, id: ContainerId) => Promise<void>;
  /** Told when a container is gone, by those who remember things about it. */
  readonly onRemoved?: (record: ContainerRecord) => void;
}

/** May run twice, also at once. After a failure the record is still there, and the next call goes on where this one ended. */
export async function removeContainer(ctx: Ctx, deps: RemoveDeps, idOrPrefix: string): Promise<void> {
  const found = deps.containers.find(idOrPrefix);
  if (found === undefined) return;
  using _ = await deps.lock.hold(found.id);
  await teardownContainer(detached(ctx), deps, found.id);
  await deps.told(detached(ctx), found.id);
  using _entered = await deps.nri.enter();
  await deps.nri.removeContainer(ctx, deps.containers.get(found.id));
  await deps.containers.delete(found.id);
  deps.flights.forget(found.name);
  deps.onRemoved?.(found);
  ctx.log.info({ container: found.id }, 'container removed');
}
