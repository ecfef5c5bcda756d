/**
 * Content by digest. A blob exists if and only if it was renamed into place after its digest was found right:
 *
 *   blobs/<algorithm>/<hex>     verified content             ingest/<algorithm>-<hex>[.parts]    what has come in so far, see ingest.ts
 */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryPrefix, writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { sweepTemporaries } from '../snapshot/temporary.ts';
import { algorithmOf, DigestCheck, hexOf, isDigest, verifyDigest, type Digest } from './digest.ts';
import { type BlobSize, Ingest, partsSuffix } from './ingest.ts';

/** No write of a small blob takes this long: what is older was cut off. */
const writeMs = 5 * 60_000;
const readChunkBytes = 1024 * 1024;

export class BlobStore {
  readonly #blobsDir: string;
  readonly #ingestDir: string;

  private constructor(root: string) {
    this.#blobsDir = join(root, 'blobs');
    this.#ingestDir = join(root, 'ingest');
  }

  static async open(root: string): Promise<BlobStore> {
    const store = new BlobStore(root);
    for (const dir of [join(store.#blobsDir, 'sha256'), join(store.#blobsDir, 'sha512'), store.#ingestDir]) await mkdir(dir, { recursive: true, mode: 0o700 });
    return store;
  }

  path(digest: Digest): string {
    return join(this.#blobsDir, algorithmOf(digest), hexOf(digest));
  }

  has(digest: Digest): boolean {
    return existsSync(this.path(digest));
  }

  /** A small blob whole, checked again (disks fail); undefined when it is not here. One that went bad is removed. */
  async read(digest: Digest): Promise<Uint8Array | undefined> {
    let data: Uint8Array;
    try {
      data = await readFile(this.path(digest));
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    try {
      verifyDigest(data, digest, 'stored blob');
    } catch {
      await this.remove(digest);
      return undefined;
    }
    return data;
  }

  /** Keeps a small blob that is in memory and was checked, surviving a power loss. */
  async write(digest: Digest, data: Uint8Array): Promise<void> {
    if (!this.has(digest)) await writeFileAtomic(this.path(digest), data, { durable: true });
  }

  /** Takes content in, continuing an earlier attempt. One at a time per digest: the caller's duty. */
  async ingest(ctx: Ctx, blob: BlobSize): Promise<Ingest> {
    return Ingest.begin(ctx, blob, { partial: this.#partial(blob.digest), final: this.path(blob.digest) });
  }

  #partial(digest: Digest): string {
    return join(this.#ingestDir, `${algorithmOf(digest)}-${hexOf(digest)}`);
  }

  /** With what has come in of it. Absent is fine. */
  async remove(digest: Digest): Promise<void> {
    const partial = this.#partial(digest);
    for (const path of [this.path(digest), `${partial}${partsSuffix}`, partial]) await rm(path, { force: true });
  }

  /** Since it was put in place; Infinity when it is not here. */
  async ageMs(digest: Digest, nowMs: number): Promise<number> {
    try {
      return nowMs - (await stat(this.path(digest))).mtimeMs;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return Infinity;
      throw error;
    }
  }

  async list(): Promise<Digest[]> {
    const digests: Digest[] = [];
    for (const algorithm of ['sha256', 'sha512']) {
      for (const hex of await readdir(join(this.#blobsDir, algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest)) digests.push(digest);
      }
    }
    return digests;
  }

  /** Removes unfinished downloads that nobody has continued for this long, and the left-overs of processes that died. */
  async sweepUnfinished(options: { olderThanMs: number; nowMs: number }): Promise<void> {
    await sweepTemporaries(this.#ingestDir);
    const isOlderThan = async (path: string, ms: number): Promise<boolean> => {
      try {
        return options.nowMs - (await stat(path)).mtimeMs > ms;
      } catch (error) {
        if (isErrno(error, 'ENOENT')) return false; // it has become a blob meanwhile
        throw error;
      }
    };
    for (const entry of await readdir(this.#ingestDir, { withFileTypes: true })) {
      const path = join(this.#ingestDir, entry.name);
      if (entry.isFile() && (await isOlderThan(path, options.olderThanMs))) await rm(path, { force: true });
    }
    for (const algorithm of ['sha256', 'sha512']) {
      const dir = join(this.#blobsDir, algorithm);
      for (const name of await readdir(dir)) if (name.startsWith(temporaryPrefix) && (await isOlderThan(join(dir, name), writeMs))) await rm(join(dir, name), { force: true });
    }
  }
}

/** The digest of a file, in the algorithm of `like`. */
export async function fileDigest(ctx: Ctx, path: string, like: Digest): Promise<Digest> {
  const check = new DigestCheck(like);
  await using file = await open(path, 'r');
  const buffer = Buffer.allocUnsafe(readChunkBytes);
  for (;;) {
    ctx.signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return check.actual();
    check.update(buffer.subarray(0, bytesRead));
  }
}
