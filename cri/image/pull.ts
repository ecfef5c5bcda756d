/**
 * PullImage: what does the reference mean → manifest → configuration → layers, fetched a few at a time and each unpacked as soon as it is there →
 * record.
 *
 * One flight per reference and credentials, per blob and per layer: whoever comes later joins, and work goes on as long as somebody waits for it.
 * The record is written last. Blobs of layers are removed then: the layers are all that is needed, and a node's disk is dear.
 */
import type { AuthConfig } from '#cri-api';
import { monotonicMs, nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { treeUsage } from '#host/disk.ts';
import { Fault, isFault } from '#host/fault.ts';
import { chainIds, type ChainId } from '../snapshot/chain-id.ts';
import type { Layers } from '../snapshot/layers.ts';
import { fetchBlob } from './blob-fetch.ts';
import type { BlobStore } from './blob-store.ts';
import { isDigest, type Digest } from './digest.ts';
import { Holds } from './holds.ts';
import { chooseManifest, maxConfigBytes, parseImageConfig, parseManifest, type Descriptor, type ImageConfig, type Manifest } from './manifest.ts';
import { hostPlatform } from './platform.ts';
import { formatReference, parseReference, repositoryOf, type Reference } from './reference.ts';
import { credentialsKey, credentialsOf } from './registry-auth.ts';
import type { FoundManifest, Registry, RegistrySession } from './registry.ts';
import { SharedWork } from './shared-work.ts';
import { Slots } from './slots.ts';
import type { ImageStore, LayerUsage } from './store.ts';
import type { Unpacker } from './unpack.ts';

export interface PullDeps {
  readonly store: ImageStore;
  readonly blobs: BlobStore;
  readonly layers: Layers;
  readonly unpacker: Unpacker;
  readonly registry: Registry;
  /** Asked at each pull. */
  readonly maxParallelDownloads: () => number;
  /** What an image may take on the disk. */
  readonly maxImageBytes: number;
}
export interface PullRequest {
  readonly ref: string;
  readonly auth?: AuthConfig | undefined;
}

/** One image on its way. */
interface Plan {
  readonly session: RegistrySession;
  readonly slots: Slots;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  /** Bottom first, as the manifest's layers. */
  readonly chain: readonly ChainId[];
  readonly blobs: readonly Digest[];
}

export class Puller {
  readonly #deps: PullDeps;
  readonly #pulls = new SharedWork<{ id: string }>();
  readonly #blobsComing = new SharedWork<void>();
  readonly #layersComing = new SharedWork<LayerUsage>();
  /** Apart, for the bottom layer of an image and its blob may have the same digest. */
  readonly blobHolds = new Holds();
  readonly layerHolds = new Holds();

  constructor(deps: PullDeps) {
    this.#deps = deps;
  }

  /** Throws Fault with the reference in its message; invalid for a reference that is none. */
  async pull(ctx: Ctx, request: PullRequest): Promise<{ id: string }> {
    const reference = parseReference(request.ref);
    const key = `${formatReference(reference)} ${credentialsKey(credentialsOf(request.auth, reference.domain))} ${request.auth?.serverAddress ?? ''}`;
    return this.#pulls.join(ctx, key, (shared) => this.#pull(shared, reference, request.auth));
  }

  async #pull(ctx: Ctx, reference: Reference, auth: AuthConfig | undefined): Promise<{ id: string }> {
    const startedMs = monotonicMs();
    try {
      const session = await this.#deps.registry.session({ reference, auth });
      const found = await session.resolve(ctx, this.#knownDigests(reference));
      const unchanged = found.data === undefined ? this.#whole(formatReference(reference)) : undefined;
      if (unchanged !== undefined) return { id: unchanged };
      const id = await this.#pullFound(ctx, session, found);
      ctx.log.info({ image: formatReference(reference), id, tookMs: Math.round(monotonicMs() - startedMs) }, 'image pulled');
      return { id };
    } catch (cause) {
      ctx.signal.throwIfAborted();
      throw new Fault(cause instanceof Fault ? cause.kind : 'internal', `pull ${formatReference(reference)}`, cause);
    }
  }

  /** Digests that the tag had when it was pulled here. */
  #knownDigests(reference: Reference): Digest[] {
    const record = reference.tag === undefined ? undefined : this.#deps.store.find(formatReference(reference));
    const prefix = `${repositoryOf(reference)}@`;
    return (record?.repoDigests ?? []).filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length)).filter(isDigest);
  }

  /** The id of an image that is here with all its layers. */
  #whole(name: string): string | undefined {
    const record = this.#deps.store.find(name);
    return record?.layers.every((layer) => this.#deps.layers.exists(layer)) === true ? record.id : undefined;
  }

  async #pullFound(ctx: Ctx, session: RegistrySession, found: FoundManifest): Promise<string> {
    const { store, layers, maxParallelDownloads, maxImageBytes } = this.#deps;
    const { manifest, digests } = await this.#imageManifest(ctx, session, found);
    using _manifests = this.blobHolds.take([...digests, manifest.config.digest]);
    const config = await this.#config(ctx, session, manifest);
    const chain = chainIds(config.diffIds);
    const compressedBytes = manifest.layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    if (compressedBytes > maxImageBytes) throw new Fault('invalid', `the image has ${compressedBytes} bytes of layers, more than the ${maxImageBytes} that are allowed`);
    const plan: Plan = { session, slots: new Slots(maxParallelDownloads()), manifest, config, chain, blobs: [...digests, manifest.config.digest] };
    const layerBlobs = manifest.layers.map(({ digest }) => digest);
    try {
      using _layers = this.layerHolds.take(chain);
      const layerUsage = await this.#layers(ctx, plan, layerBlobs);
      await layers.syncNames();
      // Before the record: a kill in between leaves nothing that the next pull would not look at.
      await this.#drop(layerBlobs);
      const { reference } = session;
      await store.put(
        { id: manifest.config.digest, config: config.run, layers: chain, layerUsage, blobs: plan.blobs, pulledAtNs: nowNs() },
        { tags: reference.tag === undefined ? [] : [formatReference(reference)], digests: [`${repositoryOf(reference)}@${found.digest}`] },
      );
    } catch (error) {
      // Others need the room now; what came in is for the next attempt otherwise.
      if (isFault(error, 'exhausted')) await this.#drop(layerBlobs);
      throw error;
    }
    return manifest.config.digest;
  }

  /** Those that no other pull wants. */
  async #drop(digests: readonly Digest[]): Promise<void> {
    for (const digest of digests) if (!this.blobHolds.has(digest)) await this.#deps.blobs.remove(digest);
  }

  /** Through an index to the manifest for this machine; both are kept. */
  async #imageManifest(ctx: Ctx, session: RegistrySession, found: FoundManifest): Promise<{ manifest: Manifest; digests: Digest[] }> {
    const digests: Digest[] = [];
    let digest = found.digest;
    let { data, mediaType } = found;
    for (let depth = 0; depth < 4; depth++) {
      const bytes: Uint8Array = data ?? (await this.#deps.blobs.read(digest)) ?? (await session.manifest(ctx, digest)).data;
      digests.push(digest);
      const parsed = parseManifest(bytes, mediaType, `manifest ${digest}`);
      await this.#deps.blobs.write(digest, bytes);
      if (parsed.kind === 'manifest') return { manifest: parsed.manifest, digests };
      const entry = chooseManifest(parsed.entries, hostPlatform(), `index ${digest}`);
      digest = entry.digest;
      mediaType = entry.mediaType;
      data = undefined;
    }
    throw new Fault('invalid', `index ${found.digest}: indexes are nested too deeply`);
  }

  async #config(ctx: Ctx, session: RegistrySession, manifest: Manifest): Promise<ImageConfig> {
    const { digest, sizeBytes } = manifest.config;
    const what = `configuration ${digest}`;
    if (sizeBytes > maxConfigBytes) throw new Fault('invalid', `${what} has ${sizeBytes} bytes, more than ${maxConfigBytes}`);
    let data = await this.#deps.blobs.read(digest);
    if (data === undefined) {
      await this.#fetch(ctx, session, manifest.config, { durable: true });
      data = await this.#deps.blobs.read(digest);
    }
    if (data === undefined) throw new Fault('internal', `${what} is gone from the store`);
    return parseImageConfig(data, manifest.layers.length, what);
  }

  #fetch(ctx: Ctx, session: RegistrySession, blob: Descriptor, options: { durable?: boolean } = {}): Promise<void> {
    return this.#blobsComing.join(ctx, blob.digest, (shared) => fetchBlob(shared, { blobs: this.#deps.blobs, session }, blob, options));
  }

  /** The biggest first: it takes longest to unpack. When one fails, the others are given up, and waited for. */
  async #layers(outer: Ctx, plan: Plan, blobs: readonly Digest[]): Promise<LayerUsage[]> {
    using _blobs = this.blobHolds.take(blobs);
    const failing = new AbortController();
    const ctx = { ...outer, signal: AbortSignal.any([outer.signal, failing.signal]) };
    const order = plan.chain.map((_, index) => index).toSorted((a, b) => (plan.manifest.layers[b]?.sizeBytes ?? 0) - (plan.manifest.layers[a]?.sizeBytes ?? 0));
    let first: unknown;
    const works = order.map(async (index) => {
      try {
        return { index, usage: await this.#layer(ctx, plan, index) };
      } catch (error) {
        first ??= error;
        failing.abort(error);
        throw error;
      }
    });
    const results = await Promise.allSettled(works);
    if (first !== undefined) throw first instanceof Error ? first : new Fault('internal', String(first));
    const usage: LayerUsage[] = [];
    for (const result of results) if (result.status === 'fulfilled') usage[result.value.index] = result.value.usage;
    const totalBytes = usage.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
    if (totalBytes > this.#deps.maxImageBytes) throw new Fault('invalid', `the image takes ${totalBytes} bytes, more than the ${this.#deps.maxImageBytes} that are allowed`);
    return usage;
  }

  #layer(ctx: Ctx, plan: Plan, index: number): Promise<LayerUsage> {
    const chainId = at(plan.chain, index);
    return this.#layersComing.join(ctx, chainId, async (shared) => {
      if (this.#deps.layers.exists(chainId)) return this.#usageOf(shared, chainId);
      const wasHere = this.#deps.blobs.has(at(plan.manifest.layers, index).digest);
      try {
        return await this.#makeLayer(shared, plan, index);
      } catch (error) {
        shared.signal.throwIfAborted();
        // What lay on our disk may have been damaged there; what has just come in was checked.
        if (!wasHere || (error instanceof Fault && error.kind === 'exhausted')) throw error;
        await this.#deps.blobs.remove(at(plan.manifest.layers, index).digest);
        return this.#makeLayer(shared, plan, index);
      }
    });
  }

  async #makeLayer(ctx: Ctx, plan: Plan, index: number): Promise<LayerUsage> {
    const layer = at(plan.manifest.layers, index);
    const below = plan.chain.slice(0, index);
    {
      using _slot = await plan.slots.take(ctx);
      await this.#fetch(ctx, plan.session, layer);
    }
    try {
      return await this.#deps.unpacker.unpack(ctx, {
        chainId: at(plan.chain, index),
        diffId: at(plan.config.diffIds, index),
        blobPath: this.#deps.blobs.path(layer.digest),
        lowers: below.toReversed(),
        // Joined anew rather than awaited from the first caller, who may go away.
        lowersReady: () => Promise.all(below.map((_, lower) => this.#layer(ctx, plan, lower))),
      });
    } catch (cause) {
      ctx.signal.throwIfAborted();
      throw new Fault(cause instanceof Fault ? cause.kind : 'internal', `layer ${layer.digest}`, cause);
    }
  }

  async #usageOf(ctx: Ctx, chainId: ChainId): Promise<LayerUsage> {
    for (const record of this.#deps.store.list()) {
      const usage = record.layerUsage[record.layers.indexOf(chainId)];
      if (usage !== undefined) return usage;
    }
    return treeUsage(ctx, this.#deps.layers.directory(chainId));
  }
}

/** An element that is known to be there: manifest layers, diff ids and chain ids were checked to be equally many. */
function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new Fault('internal', `no element ${index} of ${list.length}`);
  return item;
}
