/**
 * Layers from blobs. All layers of an image are unpacked at once, each into a directory of its own, and renamed into place as soon as it is whole and
 * on the disk; only one that depends on those below (see layer-settle.ts) waits for them.
 */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { ChainId } from '../snapshot/chain-id.ts';
import type { Layers } from '../snapshot/layers.ts';
import type { TemporaryDirectory } from '../snapshot/temporary.ts';
import type { Digest } from './digest.ts';
import type { Applied, ApplyLimits } from './layer-apply.ts';
import type { LayerUsage } from './store.ts';
import type { UnpackRequest } from './unpack-job.ts';
import { WorkerPool } from './worker-pool.ts';

export interface LayerRequest {
  readonly chainId: ChainId;
  readonly diffId: Digest;
  /** A file with the tar, compressed or not. */
  readonly blobPath: string;
  /** The layers below, topmost first. */
  readonly lowers: readonly ChainId[];
  /** Resolves when all of `lowers` are in place. */
  readonly lowersReady: () => Promise<unknown>;
}

export class Unpacker {
  readonly #layers: Layers;
  readonly #pool: WorkerPool;

  readonly #limits: ApplyLimits;

  constructor(deps: { readonly layers: Layers; readonly threads?: number | undefined; readonly limits: ApplyLimits }) {
    this.#layers = deps.layers;
    this.#limits = deps.limits;
    this.#pool = new WorkerPool(deps.threads);
  }

  /** Makes the layer; on failure nothing is left. Throws Fault invalid for content that is refused. Once at a time per chain id. */
  async unpack(ctx: Ctx, request: LayerRequest): Promise<LayerUsage> {
    await using directory = await this.#layers.temporary();
    const applied = await this.#apply(ctx, { blobPath: request.blobPath, diffId: request.diffId, directory: directory.path });
    const isOpen = applied.implicitDirectories.length > 0 || applied.missingLinks.length > 0;
    if (isOpen) await request.lowersReady();
    if (isOpen && !(await this.#settle(ctx, directory.path, applied, request))) return await this.#unpackOver(ctx, request);
    return await this.#commit(ctx, request, directory, applied);
  }

  /** Again, with the layers below in view. */
  async #unpackOver(ctx: Ctx, request: LayerRequest): Promise<LayerUsage> {
    await using directory = await this.#layers.temporary();
    const lowers = request.lowers.map((layer) => this.#layers.directory(layer));
    const applied = await this.#apply(ctx, { blobPath: request.blobPath, diffId: request.diffId, directory: directory.path, lowers });
    const [link] = applied.missingLinks;
    if (link !== undefined) throw new Fault('invalid', `the hard link ${link} points at nothing`);
    return await this.#commit(ctx, request, directory, applied);
  }

  async #commit(ctx: Ctx, request: LayerRequest, directory: TemporaryDirectory, applied: Applied): Promise<LayerUsage> {
    if (applied.lostXattrs > 0) ctx.log.warn({ layer: request.chainId, count: applied.lostXattrs }, 'extended attributes of a layer could not be stored');
    await this.#layers.commit(request.chainId, directory);
    return { usedBytes: applied.usedBytes, inodes: applied.inodes };
  }

  async #settle(ctx: Ctx, directory: string, applied: Applied, request: LayerRequest): Promise<boolean> {
    const [link] = applied.missingLinks;
    if (link !== undefined && request.lowers.length === 0) throw new Fault('invalid', `the hard link ${link} points at nothing`);
    if (link !== undefined) return false;
    if (request.lowers.length === 0) return true;
    const lowers = request.lowers.map((layer) => this.#layers.directory(layer));
    const result = await this.#pool.run(ctx, { do: 'settle', request: { directory, implicitDirectories: applied.implicitDirectories, lowers } });
    return 'settled' in result && result.settled;
  }

  /** Unpacks a tar of images (not a layer) into an empty directory. */
  async extract(ctx: Ctx, request: { readonly archive: string; readonly directory: string }): Promise<void> {
    const applied = await this.#apply(ctx, { blobPath: request.archive, diffId: undefined, directory: request.directory, plain: true });
    const [link] = applied.missingLinks;
    if (link !== undefined) throw new Fault('invalid', `the hard link ${link} points at nothing`);
  }

  async #apply(ctx: Ctx, request: UnpackRequest): Promise<Applied> {
    const result = await this.#pool.run(ctx, { do: 'unpack', request: { ...request, limits: this.#limits } });
    if (!('unpacked' in result)) throw new Fault('internal', 'the worker answered something else');
    return result.unpacked;
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }
}
