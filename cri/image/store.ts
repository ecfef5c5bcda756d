/**
 * Which images are here: one JSON record per image, by id, tag and digest.
 *
 * The file is written before memory changes, and a record is only written once all its layers are in place. Another process of ours may add records
 * (`nodelet image import`); `reload` takes them in.
 */
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { temporaryPrefix, writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { watchDirectory } from '#host/watch-dir.ts';
import type { ChainId } from '../snapshot/chain-id.ts';
import { KeyedLock } from '../state/keyed-lock.ts';
import { parseRecord, stringifyRecord } from '../state/record-json.ts';
import { hexOf, isDigest, type Digest } from './digest.ts';
import type { RunConfig } from './manifest.ts';
import { formatReference, parseReference } from './reference.ts';

/** The digest of the image's configuration: `sha256:<64 hex>`. */
export type ImageId = Digest;

/** What a layer takes on the disk. */
export interface LayerUsage {
  readonly usedBytes: number;
  readonly inodes: number;
}

export interface ImageRecord {
  readonly version: 1;
  readonly id: ImageId;
  /** Normalised, in the order in which they came: `docker.io/library/busybox:1.37`. */
  readonly repoTags: readonly string[];
  /** `docker.io/library/busybox@sha256:…`: exactly the digests that were pulled. */
  readonly repoDigests: readonly string[];
  /** Bytes on the disk of all its layers: what removing it can free at most. Never 0. */
  readonly sizeBytes: number;
  readonly config: RunConfig;
  /** Bottom first. */
  readonly layers: readonly ChainId[];
  /** In the order of `layers`. */
  readonly layerUsage: readonly LayerUsage[];
  /** The manifest and the configuration in the blob store, kept as long as the image is. */
  readonly blobs: readonly Digest[];
  readonly pinned: boolean;
  readonly pulledAtNs: bigint;
}

/** What a pull or an import found out; the store adds the names it has already. */
export type NewImage = Pick<ImageRecord, 'id' | 'config' | 'layers' | 'layerUsage' | 'blobs' | 'pulledAtNs'>;

/** Names that now mean this image: normalised references. */
export interface NewNames {
  readonly tags: readonly string[];
  readonly digests: readonly string[];
}

export interface StoreOptions {
  /** Where the records are. */
  readonly dir: string;
  /** References whose images say `pinned`, so that the kubelet's garbage collection leaves them alone. */
  readonly pinned: readonly string[];
}

const minPrefixLength = 4;

/** The references in the one way in which images are called here. Throws Fault invalid for one that is none. */
export const pinnedNames = (references: readonly string[]): ReadonlySet<string> =>
  new Set(references.map((reference) => formatReference(parseReference(reference))));

export class ImageStore {
  readonly #dir: string;
  #pinned: ReadonlySet<string>;
  readonly #writing = new KeyedLock<'all'>();
  /** By file name: what it was read from, so that only files that changed are read again. */
  #files = new Map<string, { readonly version: string; readonly record: ImageRecord | undefined }>();
  #byId = new Map<ImageId, ImageRecord>();
  #idOfName = new Map<string, ImageId>();

  private constructor(options: StoreOptions) {
    this.#dir = options.dir;
    this.#pinned = pinnedNames(options.pinned);
  }

  static async open(ctx: Ctx, options: StoreOptions): Promise<ImageStore> {
    await mkdir(options.dir, { recursive: true, mode: 0o700 });
    const store = new ImageStore(options);
    await store.reload(ctx);
    return store;
  }

  /** Reads the records that are new or changed. One that cannot be read is logged and left out: its image is pulled again. */
  async reload(ctx: Ctx): Promise<void> {
    using _ = await this.#writing.hold('all');
    const files = new Map<string, { readonly version: string; readonly record: ImageRecord | undefined }>();
    for (const name of await readdir(this.#dir)) {
      if (!name.endsWith('.json') || name.startsWith(temporaryPrefix)) continue;
      const version = await versionOf(join(this.#dir, name));
      const known = this.#files.get(name);
      files.set(name, known?.version === version ? known : { version, record: await this.#read(ctx, name) });
    }
    this.#files = files;
    const records = [...files.values()].map(({ record }) => record).filter((record) => record !== undefined);
    records.sort((a, b) => (a.pulledAtNs < b.pulledAtNs ? -1 : a.pulledAtNs > b.pulledAtNs ? 1 : 0));
    this.#byId = new Map(records.map((record) => [record.id, record]));
    this.#reindex();
  }

  /** Takes in what another process of ours writes, until `ctx` ends. */
  followDirectory(ctx: Ctx): void {
    watchDirectory(ctx, this.#dir, () => {
      this.reload(ctx).catch((err: unknown) => ctx.log.warn({ err }, 'image records cannot be read again'));
    }, { rescanMs: 600_000 });
  }

  async #read(ctx: Ctx, name: string): Promise<ImageRecord | undefined> {
    const path = join(this.#dir, name);
    try {
      const value = parseRecord(await readFile(path, 'utf8'));
      if (isImageRecord(value) && `${hexOf(value.id)}.json` === name) return value;
      ctx.log.warn({ path }, 'image record is not of a known form; ignored');
    } catch (err) {
      if (!isErrno(err, 'ENOENT')) ctx.log.warn({ path, err }, 'image record cannot be read; ignored');
    }
    return undefined;
  }

  /** A name belongs to one image only; when two records claim it (we were stopped between two writes), the younger one is right. */
  #reindex(): void {
    this.#idOfName = new Map();
    for (const { id, repoTags, repoDigests } of this.#byId.values()) for (const name of [...repoTags, ...repoDigests]) this.#idOfName.set(name, id);
  }

  /** By reference (a tag, none for `latest`, or `name@digest`), by id, or by a unique beginning of an id, with `sha256:` or without. */
  find(refOrId: string): ImageRecord | undefined {
    const id = this.#idOfReference(refOrId) ?? this.#idOfPrefix(refOrId);
    const record = id === undefined ? undefined : this.#byId.get(id);
    return record === undefined ? undefined : this.#shown(record);
  }

  /** From now on these say `pinned`, and no others. */
  pin(names: ReadonlySet<string>): void {
    this.#pinned = names;
  }

  list(): ImageRecord[] {
    return [...this.#byId.values()].map((record) => this.#shown(record));
  }

  #shown(record: ImageRecord): ImageRecord {
    const repoTags = record.repoTags.filter((name) => this.#idOfName.get(name) === record.id);
    const repoDigests = record.repoDigests.filter((name) => this.#idOfName.get(name) === record.id);
    const pinned = [...repoTags, ...repoDigests].some((name) => this.#pinned.has(name));
    return { ...record, repoTags, repoDigests, pinned };
  }

  #idOfReference(text: string): ImageId | undefined {
    if (isDigest(text) || /^[0-9a-f]{64}$/.test(text)) return undefined;
    try {
      return this.#idOfName.get(formatReference(parseReference(text)));
    } catch (error) {
      if (error instanceof Fault) return undefined;
      throw error;
    }
  }

  #idOfPrefix(text: string): ImageId | undefined {
    const hex = text.startsWith('sha256:') ? text.slice('sha256:'.length) : text;
    if (hex.length < minPrefixLength || !/^[0-9a-f]+$/.test(hex)) return undefined;
    const exact = `sha256:${hex}` as ImageId;
    if (this.#byId.has(exact)) return exact;
    const matches = [...this.#byId.keys()].filter((id) => id.startsWith(exact));
    return matches.length === 1 ? matches[0] : undefined;
  }

  /** Adds an image or names to one that is known. A tag that meant another image leaves that one, which stays under its other names. */
  async put(image: NewImage, names: NewNames): Promise<ImageRecord> {
    using _ = await this.#writing.hold('all');
    const known = this.#byId.get(image.id);
    const merge = (old: readonly string[] | undefined, added: readonly string[]): string[] => [...new Set([...(old ?? []), ...added])];
    const record: ImageRecord = {
      version: 1,
      ...image,
      repoTags: merge(known?.repoTags.filter((name) => this.#idOfName.get(name) === image.id), names.tags),
      repoDigests: merge(known?.repoDigests.filter((name) => this.#idOfName.get(name) === image.id), names.digests),
      blobs: [...new Set([...(known?.blobs ?? []), ...image.blobs])],
      sizeBytes: Math.max(1, image.layerUsage.reduce((sum, { usedBytes }) => sum + usedBytes, 0)),
      pinned: false,
    };
    await this.#save(record);
    this.#byId.delete(record.id);
    this.#byId.set(record.id, record);
    for (const name of [...record.repoTags, ...record.repoDigests]) await this.#takeName(name, record.id);
    return this.#shown(record);
  }

  async #takeName(name: string, id: ImageId): Promise<void> {
    const before = this.#idOfName.get(name);
    this.#idOfName.set(name, id);
    const old = before === undefined || before === id ? undefined : this.#byId.get(before);
    if (old === undefined) return;
    const without = { ...old, repoTags: old.repoTags.filter((tag) => tag !== name), repoDigests: old.repoDigests.filter((digest) => digest !== name) };
    this.#byId.set(old.id, without);
    await this.#save(without);
  }

  /** Removes the image with all its names. False when it was not there. */
  async delete(id: ImageId): Promise<boolean> {
    using _ = await this.#writing.hold('all');
    const record = this.#byId.get(id);
    if (record === undefined) return false;
    this.#byId.delete(id);
    this.#reindex();
    const path = this.#path(id);
    await rm(path, { force: true });
    this.#files.delete(basename(path));
    return true;
  }

  async #save(record: ImageRecord): Promise<void> {
    const path = this.#path(record.id);
    await writeFileAtomic(path, stringifyRecord(record), { durable: true });
    this.#files.set(basename(path), { version: await versionOf(path), record });
  }
  #path(id: ImageId): string {
    return join(this.#dir, `${hexOf(id)}.json`);
  }
}

/** Another for every file that is renamed into place; a file that is gone has none. */
async function versionOf(path: string): Promise<string> {
  try {
    const { ino, mtimeMs, size } = await stat(path);
    return `${ino} ${mtimeMs} ${size}`;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

const isStrings = (value: unknown): boolean => Array.isArray(value) && value.every((item) => typeof item === 'string');

/** Enough to trust the rest, which only we write; cut-off files are no JSON in the first place. */
function isImageRecord(value: unknown): value is ImageRecord {
  if (typeof value !== 'object' || value === null) return false;
  const record = value as Partial<Record<keyof ImageRecord, unknown>>;
  return (
    record.version === 1 &&
    typeof record.id === 'string' &&
    isDigest(record.id) &&
    [record.repoTags, record.repoDigests, record.layers, record.blobs].every(isStrings) &&
    typeof record.sizeBytes === 'number' &&
    typeof record.config === 'object' &&
    record.config !== null &&
    Array.isArray(record.layerUsage) &&
    typeof record.pulledAtNs === 'bigint'
  );
}
