/** `nodelet image import PATH`: images from an OCI layout or a docker archive, each a directory or a tar (compressed or not). */
import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { treeUsage } from '#host/disk.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { chainIds, type ChainId } from '../snapshot/chain-id.ts';
import type { Layers } from '../snapshot/layers.ts';
import { makeTemporary } from '../snapshot/temporary.ts';
import { fileDigest, type BlobStore } from './blob-store.ts';
import { takeImportLock } from './import-lock.ts';
import { readImageDirectory, type SourceImage } from './import-source.ts';
import type { ImageRecord, ImageStore, LayerUsage } from './store.ts';
import type { Unpacker } from './unpack.ts';

export interface ImportDeps {
  readonly store: ImageStore;
  readonly blobs: BlobStore;
  readonly layers: Layers;
  readonly unpacker: Unpacker;
  readonly imagesDir: string;
}
export interface ImportRequest {
  readonly path: string;
  /** For the one image that has no name of its own, or another. */
  readonly name?: string;
}

/** Throws Fault that names the path. A server that runs on the same directories sees the images at once. */
export async function importImages(ctx: Ctx, deps: ImportDeps, request: ImportRequest): Promise<ImageRecord[]> {
  using lock = takeImportLock(deps.imagesDir);
  if (lock === undefined) throw new Fault('unavailable', 'another import (or a clean-up of images) is running; try again when it has ended');
  try {
    const path = await existing(request.path);
    if ((await stat(path)).isDirectory()) return await importDirectory(ctx, deps, { path, name: request.name });
    return await importArchive(ctx, deps, { path, name: request.name });
  } catch (cause) {
    ctx.signal.throwIfAborted();
    throw new Fault(cause instanceof Fault ? cause.kind : 'internal', `import ${request.path}`, cause);
  }
}

async function existing(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) throw new Fault('invalid', 'no such file or directory', cause);
    throw cause;
  }
}

async function importArchive(ctx: Ctx, deps: ImportDeps, request: { readonly path: string; readonly name: string | undefined }): Promise<ImageRecord[]> {
  // In `ingest`, where an interrupted import is swept.
  await using directory = await makeTemporary(join(deps.imagesDir, 'ingest'));
  await deps.unpacker.extract(ctx, { archive: request.path, directory: directory.path });
  return await importDirectory(ctx, deps, { path: directory.path, name: request.name });
}

async function importDirectory(ctx: Ctx, deps: ImportDeps, request: { readonly path: string; readonly name: string | undefined }): Promise<ImageRecord[]> {
  const images = await readImageDirectory(request.path, request.name);
  const records: ImageRecord[] = [];
  for (const image of images) {
    try {
      records.push(await importImage(ctx, deps, image));
    } catch (cause) {
      ctx.signal.throwIfAborted();
      throw new Fault(cause instanceof Fault ? cause.kind : 'internal', `image ${image.tags[0] ?? image.id}`, cause);
    }
  }
  return records;
}

async function importImage(ctx: Ctx, deps: ImportDeps, image: SourceImage): Promise<ImageRecord> {
  const chain = chainIds(image.config.diffIds);
  const works = new Map<ChainId, Promise<LayerUsage>>();
  const layer = (index: number): Promise<LayerUsage> => {
    const chainId = chain[index];
    if (chainId === undefined) throw new Fault('internal', `no layer ${index}`);
    const lowersReady = (): Promise<unknown> => Promise.all(chain.slice(0, index).map((_, lower) => layer(lower)));
    const work = works.get(chainId) ?? importLayer(ctx, deps, { image, chain, index, lowersReady });
    works.set(chainId, work);
    return work;
  };
  const results = await Promise.allSettled(chain.map((_, index) => layer(index)));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  for (const { digest, data } of image.blobs) await deps.blobs.write(digest, data);
  await deps.layers.syncNames();
  const record = await deps.store.put(
    {
      id: image.id,
      config: image.config.run,
      layers: chain,
      layerUsage: results.map((result) => (result.status === 'fulfilled' ? result.value : { usedBytes: 0, inodes: 0 })),
      blobs: image.blobs.map(({ digest }) => digest),
      pulledAtNs: nowNs(),
    },
    { tags: image.tags, digests: image.digests },
  );
  ctx.log.info({ image: record.id, names: record.repoTags }, 'image imported');
  return record;
}

async function importLayer(
  ctx: Ctx,
  deps: ImportDeps,
  request: { readonly image: SourceImage; readonly chain: readonly ChainId[]; readonly index: number; readonly lowersReady: () => Promise<unknown> },
): Promise<LayerUsage> {
  const { image, chain, index } = request;
  const chainId = chain[index];
  const source = image.layers[index];
  const diffId = image.config.diffIds[index];
  if (chainId === undefined || source === undefined || diffId === undefined) throw new Fault('internal', `no layer ${index}`);
  if (deps.layers.exists(chainId)) return treeUsage(ctx, deps.layers.directory(chainId));
  try {
    if (source.digest !== undefined) {
      const actual = await fileDigest(ctx, source.file, source.digest);
      if (actual !== source.digest) throw new Fault('invalid', `wrong digest: expected ${source.digest}, got ${actual}`);
    }
    const lowers = chain.slice(0, index).toReversed();
    return await deps.unpacker.unpack(ctx, { chainId, diffId, blobPath: source.file, lowers, lowersReady: request.lowersReady });
  } catch (cause) {
    ctx.signal.throwIfAborted();
    throw new Fault(cause instanceof Fault ? cause.kind : 'internal', `layer ${source.digest ?? diffId}`, cause);
  }
}
