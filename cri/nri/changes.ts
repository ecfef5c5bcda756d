/** What plugins ask for other containers: their limits changed, or their end. Done one after the other, in the order in which it was asked. */
import type { LinuxContainerResources } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import { KeyedLock } from '../state/keyed-lock.ts';
import type { ContainerEviction, ContainerUpdate } from './gen/api.ts';
import { toCriResources } from './resources.ts';

export interface ChangeDeps {
  readonly containers: { find(id: string): ContainerRecord | undefined };
  /** UpdateContainerResources without its moments. */
  readonly updateContainer: (ctx: Ctx, id: string, resources: LinuxContainerResources) => Promise<void>;
  /** StopContainer with a grace of 0. */
  readonly evictContainer: (ctx: Ctx, id: string) => Promise<void>;
}

export class Changes {
  readonly #deps: ChangeDeps;
  readonly #turns = new KeyedLock<'changes'>();

  constructor(deps: ChangeDeps) {
    this.#deps = deps;
  }

  /** Takes its turn when called; returns what failed and may not be overlooked. A container that is not there counts as done. */
  async update(ctx: Ctx, updates: readonly ContainerUpdate[]): Promise<ContainerUpdate[]> {
    if (updates.length === 0) return [];
    using _ = await this.#turns.hold('changes');
    const failed: ContainerUpdate[] = [];
    for (const update of updates) {
      const resources = update.linux?.resources;
      const record = this.#deps.containers.find(update.containerId);
      if (resources === undefined || record === undefined) continue;
      try {
        // Whoever makes it may be waiting for this update.
        if (record.state.name === 'making') throw new Error('it is still being made');
        await this.#deps.updateContainer(ctx, record.id, toCriResources(resources));
      } catch (error) {
        ctx.log.warn({ err: error, container: record.id }, 'an update that an NRI plugin asked for failed');
        if (!update.ignoreFailure) failed.push(update);
      }
    }
    return failed;
  }

  /** A failure is logged: whoever asked cannot be told. */
  async evict(ctx: Ctx, evictions: readonly ContainerEviction[]): Promise<void> {
    await Promise.all(evictions.map(async ({ containerId, reason }) => {
      try {
        ctx.log.warn({ container: containerId, reason }, 'an NRI plugin evicts a container');
        await this.#deps.evictContainer(ctx, containerId);
      } catch (error) {
        ctx.log.error({ err: error, container: containerId }, 'an eviction that an NRI plugin asked for failed');
      }
    }));
  }
}
