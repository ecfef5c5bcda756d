/** `nodelet image import PATH` */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { Layers } from '../snapshot/layers.ts';
import type { BlobStore } from './blob-store.ts';
import type { ImageRecord, ImageStore } from './store.ts';
import type { Unpacker } from './unpack.ts';

export interface ImportDeps {
  readonly store: ImageStore;
  readonly blobs: BlobStore;
  readonly layers: Layers;
  readonly unpacker: Unpacker;
  readonly imagesDir: string;
}
export async function importImages(_ctx: Ctx, _deps: ImportDeps, _request: { readonly path: string; readonly name?: string }): Promise<ImageRecord[]> {
  throw new Fault('unimplemented', 'import');
}
