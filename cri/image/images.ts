/** The image half of the CRI server behind one object: what cri/service, cri/container and the command line use. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuthConfig, Image, ImageFsInfoResponse, ImageStatusResponse } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Layers } from '../snapshot/layers.ts';
import { BlobStore } from './blob-store.ts';
import { imageFsInfo } from './fs-info.ts';
import { importImages } from './import.ts';
import { defaultLimits } from './layer-apply.ts';
import { listImages } from './list.ts';
import { Puller } from './pull.ts';
import { Registry, type RegistryLimits } from './registry.ts';
import { removeImage } from './remove.ts';
import { imageStatus } from './status.ts';
import { ImageStore, type ImageRecord } from './store.ts';
import { sweepAtStart, sweepImages, type LayersInUse } from './sweep.ts';
import { Unpacker } from './unpack.ts';

/** What can change at any time: it holds for requests and pulls from then on. */
export type PullLimits = RegistryLimits & Pick<ImagesOptions, 'parallelDownloads'>;

export interface ImagesOptions extends RegistryLimits {
  /** Records, blobs and unfinished downloads. */
  readonly imagesDir: string;
  readonly layersDir: string;
  /** `<certsDir>/<host>/hosts.toml`, read at each pull. */
  readonly certsDir: string;
  /** Layers of one image that are fetched at the same time. Default 3. */
  readonly parallelDownloads?: number;
  /** Threads that unpack. Default: one per processor, at least 2. */
  readonly parallelUnpacks?: number | undefined;
  /** What an image may unpack to. */
  readonly maxImageSizeBytes?: number;
  /** References whose images say `pinned`. */
  readonly pinned?: readonly string[];
  readonly userAgent?: string;
}

const defaultParallelDownloads = 3;

export class Images {
  readonly layers: Layers;
  readonly #store: ImageStore;
  readonly #blobs: BlobStore;
  readonly #unpacker: Unpacker;
  readonly #registry: Registry;
  readonly #puller: Puller;
  readonly #options: ImagesOptions;
  #parallelDownloads: number;

  private constructor(parts: { options: ImagesOptions; layers: Layers; store: ImageStore; blobs: BlobStore }) {
    const { options, layers, store, blobs } = parts;
    this.#options = options;
    this.layers = layers;
    this.#store = store;
    this.#blobs = blobs;
    const { parallelUnpacks: threads, maxImageSizeBytes: maxBytes = defaultLimits.maxBytes } = options;
    this.#parallelDownloads = options.parallelDownloads ?? defaultParallelDownloads;
    this.#unpacker = new Unpacker({ layers, threads, limits: { ...defaultLimits, maxBytes } });
    this.#registry = new Registry(options);
    this.#puller = new Puller({ store, blobs, layers, unpacker: this.#unpacker, registry: this.#registry, maxParallelDownloads: () => this.#parallelDownloads, maxImageBytes: maxBytes });
  }

  /** Makes the directories, reads the records, removes what an interrupted process left, and follows records that another process adds until `ctx` ends. */
  static async open(ctx: Ctx, options: ImagesOptions): Promise<Images> {
    const recordsDir = join(options.imagesDir, 'records');
    await mkdir(options.imagesDir, { recursive: true, mode: 0o700 });
    const layers = await Layers.open(options.layersDir);
    const blobs = await BlobStore.open(options.imagesDir);
    const store = await ImageStore.open(ctx, { dir: recordsDir, pinned: options.pinned ?? [] });
    await sweepAtStart(ctx, { layers, blobs, store, imagesDir: options.imagesDir });
    store.followDirectory(ctx);
    return new Images({ options, layers, store, blobs });
  }

  /** PullImage. Ends when `ctx` ends, unless others wait for the same. The answer is the image's id, `sha256:…`. */
  pull(ctx: Ctx, request: { readonly ref: string; readonly auth?: AuthConfig | undefined }): Promise<{ id: string }> {
    return this.#puller.pull(ctx, request);
  }

  setLimits(limits: PullLimits): void {
    this.#parallelDownloads = limits.parallelDownloads ?? defaultParallelDownloads;
    this.#registry.setLimits(limits);
  }

  /** See pinnedNames: images that the kubelet's garbage collection leaves alone. */
  pin(names: ReadonlySet<string>): void {
    this.#store.pin(names);
  }

  /** By tag, untagged name, `name@digest`, id or a unique beginning of an id. */
  find(refOrId: string): ImageRecord | undefined {
    return this.#store.find(refOrId);
  }

  records(): ImageRecord[] {
    return this.#store.list();
  }

  /** ListImages; an empty filter is none. */
  list(filter = ''): Image[] {
    return listImages(this.#store, filter);
  }

  /** ImageStatus; `image` is undefined for one that is not here. */
  status(refOrId: string, options: { readonly verbose: boolean } = { verbose: false }): Promise<ImageStatusResponse> {
    return imageStatus({ store: this.#store, blobs: this.#blobs }, refOrId, options);
  }

  /** RemoveImage: the image with all its names; unknown is success. Layers go with the next sweep. */
  remove(ctx: Ctx, refOrId: string): Promise<void> {
    return removeImage(ctx, { store: this.#store }, refOrId);
  }

  /** `nodelet image import PATH`: an OCI layout or a docker archive, as a directory or a tar. `name` is for an image that has none. */
  import(ctx: Ctx, path: string, options: { readonly name?: string } = {}): Promise<ImageRecord[]> {
    const { imagesDir } = this.#options;
    return importImages(ctx, { store: this.#store, blobs: this.#blobs, layers: this.layers, unpacker: this.#unpacker, imagesDir }, { path, ...options });
  }

  /** ImageFsInfo: cheap, from the records. */
  fsInfo(): Promise<ImageFsInfoResponse> {
    return imageFsInfo({ store: this.#store, layersDir: this.layers.root });
  }

  /** Removes layers and blobs that no image, no running pull and none of `layersInUse` (of containers, also of those being made) needs. */
  sweep(ctx: Ctx, layersInUse: LayersInUse): Promise<void> {
    const { imagesDir } = this.#options;
    return sweepImages(ctx, { store: this.#store, blobs: this.#blobs, layers: this.layers, puller: this.#puller, imagesDir }, layersInUse);
  }

  /** Ends idle connections and worker threads. Pulls end with their own ctx. */
  async close(): Promise<void> {
    this.#registry.close();
    await this.#unpacker.close();
  }
}
