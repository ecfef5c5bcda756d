/** Removes layers and blobs that nothing refers to: no image record, no work in progress, no container. */
import type { Ctx } from '#host/ctx.ts';
import type { ChainId } from '../snapshot/chain-id.ts';
import type { Layers } from '../snapshot/layers.ts';
import type { BlobStore } from './blob-store.ts';
import type { Holds } from './holds.ts';
import { takeImportLock } from './import-lock.ts';
import type { ImageStore } from './store.ts';

/** Blobs of pulls that failed or were interrupted, whole or not, are kept this long for the next attempt. */
const keepUnfinishedMs = 24 * 3_600_000;

export interface SweepDeps {
  readonly layers: Layers;
  readonly blobs: BlobStore;
  readonly store: ImageStore;
  readonly imagesDir: string;
}

/** Removes what processes that died left half made, and records whose layers are gone. Harms no other process that works on the same directories. */
export async function sweepAtStart(ctx: Ctx, deps: SweepDeps): Promise<void> {
  using lock = takeImportLock(deps.imagesDir);
  if (lock === undefined) return;
  await deps.layers.sweepTemporary();
  await deps.blobs.sweepUnfinished({ olderThanMs: keepUnfinishedMs, nowMs: Date.now() });
  for (const record of deps.store.list()) {
    const lost = record.layers.find((layer) => !deps.layers.exists(layer));
    if (lost === undefined) continue;
    ctx.log.warn({ image: record.id, names: record.repoTags, layer: lost }, 'an image has lost a layer; it is forgotten and will be pulled again');
    await deps.store.delete(record.id);
  }
}

/** Chain ids of containers, also of those being made; as a function it is asked before each removal, so that it cannot be out of date. */
export type LayersInUse = ReadonlySet<string> | (() => ReadonlySet<string>);

/** Does nothing while an import runs in another process. */
export async function sweepImages(ctx: Ctx, deps: SweepDeps & { readonly puller: { readonly blobHolds: Holds; readonly layerHolds: Holds } }, layersInUse: LayersInUse): Promise<void> {
  using lock = takeImportLock(deps.imagesDir);
  if (lock === undefined) return;
  const { layers, blobs, store } = deps;
  const { blobHolds, layerHolds } = deps.puller;
  // What an import that has just ended has written must be known before anything is called rubbish.
  await store.reload(ctx);
  const isInUse = (name: ChainId): boolean => (typeof layersInUse === 'function' ? layersInUse() : layersInUse).has(name);
  const isNeeded = (name: ChainId): boolean =>
    layerHolds.has(name) || isInUse(name) || store.list().some((record) => record.layers.includes(name));
  let removed = 0;
  for (const layer of await layers.list()) {
    ctx.signal.throwIfAborted();
    // Asked anew for each: a pull may have begun to rely on it.
    if (isNeeded(layer)) continue;
    await layers.remove(layer);
    removed += 1;
  }
  await blobs.sweepUnfinished({ olderThanMs: keepUnfinishedMs, nowMs: Date.now() });
  const keptBlobs = new Set<string>(store.list().flatMap((record) => record.blobs));
  for (const blob of await blobs.list()) {
    if (keptBlobs.has(blob) || blobHolds.has(blob) || (await blobs.ageMs(blob, Date.now())) < keepUnfinishedMs) continue;
    await blobs.remove(blob);
  }
  if (removed > 0) ctx.log.info({ layers: removed }, 'layers removed that nothing needs');
}
