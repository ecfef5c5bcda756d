/** PullImage: resolve, fetch in parallel, unpack, record. */
import type { AuthConfig } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { Layers } from '../snapshot/layers.ts';
import type { BlobStore } from './blob-store.ts';
import type { Registry } from './registry.ts';
import type { ImageStore } from './store.ts';
import type { Unpacker } from './unpack.ts';

export interface PullDeps {
  readonly store: ImageStore;
  readonly blobs: BlobStore;
  readonly layers: Layers;
  readonly unpacker: Unpacker;
  readonly registry: Registry;
  readonly maxParallelDownloads: number;
}

export class Puller {
  constructor(_deps: PullDeps) {}
  async pull(_ctx: Ctx, _request: { readonly ref: string; readonly auth?: AuthConfig | undefined }): Promise<{ id: string }> {
    throw new Fault('unimplemented', 'pull');
  }
}
