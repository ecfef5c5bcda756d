/** Deletes what no image and no container refers to. */
import type { Ctx } from '#host/ctx.ts';
import type { Layers } from '../snapshot/layers.ts';
import type { BlobStore } from './blob-store.ts';
import type { ImageStore } from './store.ts';
import type { Puller } from './pull.ts';

export async function sweepAtStart(_ctx: Ctx, _deps: { layers: Layers; blobs: BlobStore; store: ImageStore; imagesDir: string }): Promise<void> {}
export async function sweepImages(_ctx: Ctx, _deps: { layers: Layers; blobs: BlobStore; store: ImageStore; puller: Puller; imagesDir: string }, _layersInUse: ReadonlySet<string>): Promise<void> {}
