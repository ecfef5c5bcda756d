/** `nodelet wipe`: everything that the CRI server ever made on this machine goes, by its own records, then its directories. */
import { removeBridge, removeMasquerade } from '#cni';
import { type Ctx, detached } from '#host/ctx.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { CriConfig } from './config.ts';
import { removeContainer } from './container/remove.ts';
import { removeOrphan } from './container/teardown.ts';
import { removeSocket } from './nri/service.ts';
import { removeMonitorGroup } from './oci/monitor-group.ts';
import { buildParts, masqueradeChainOf } from './parts.ts';
import { removePodSandbox } from './sandbox/remove.ts';
import { removeOrphanSandbox } from './sandbox/teardown.ts';
import { criPaths } from './state/paths.ts';

/**
 * Under the lock of the root directory, which stays. May run twice and after a wipe that was cut off; what cannot be removed is thrown after
 * everything else was tried, and its record stays.
 */
export async function wipeCri(ctx: Ctx, config: CriConfig): Promise<void> {
  const paths = criPaths(config);
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failures.push(error);
    }
  };
  {
    const ended = new AbortController();
    const own = { ...ctx, signal: AbortSignal.any([ctx.signal, ended.signal]) };
    const parts = await buildParts(own, config);
    for (const record of parts.containers.list()) if (record.state.name !== 'making') await attempt(() => parts.exits.resume(record));
    for (const { id } of parts.sandboxes.list()) await attempt(() => removePodSandbox(detached(ctx), parts.removeSandbox, id));
    for (const { id } of parts.containers.list()) await attempt(() => removeContainer(detached(ctx), parts.removeContainer, id));
    for (const dir of await parts.containers.orphans()) await attempt(() => removeOrphan(detached(ctx), parts.removeContainer, dir));
    for (const dir of await parts.sandboxes.orphans()) await attempt(() => removeOrphanSandbox(detached(ctx), parts.removeContainer, dir));
    await attempt(() => parts.cni.gc(detached(ctx), () => []));
    await attempt(() => removeBridge(detached(ctx), config.cni.bridge));
    await attempt(() => removeMasquerade(detached(ctx), masqueradeChainOf(config)));
    await attempt(() => removeSocket(config.nri.socket));
    await attempt(() => removeMonitorGroup(detached(ctx), parts.cgroups));
    ended.abort();
    await parts.images.close();
  }
  if (failures.length > 0) throw new AggregateError(failures, `not everything could be removed: ${failures.map(String).join('; ')}`);
  await removeTree(paths.stateDir);
  for (const dir of [paths.containersDir, paths.sandboxesDir, paths.imagesDir, paths.layersDir, paths.cniDir]) await removeTree(dir);
}
