/**
 * Content by digest. A blob exists if and only if it was renamed into place after its digest was found right:
 *
 *   blobs/<algorithm>/<hex>     verified content             ingest/<algorithm>-<hex>    what has come in so far: kept for resuming
 */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory, temporaryPrefix, writeFileAtomic } from '#host/atomic-file.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { sweepTemporaries } from '../snapshot/temporary.ts';
import { algorithmOf, DigestCheck, hexOf, isDigest, verifyDigest, type Digest } from './digest.ts';

export interface BlobSize {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

const readChunkBytes = 1024 * 1024;
/** Bytes gathered before they are written: a call into the pool costs about as much as copying this. */
const writeBatchBytes = 512 * 1024;

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
    const partial = join(this.#ingestDir, `${algorithmOf(blob.digest)}-${hexOf(blob.digest)}`);
    return Ingest.begin(ctx, blob, { partial, final: this.path(blob.digest) });
  }

  /** Absent is fine. */
  async remove(digest: Digest): Promise<void> {
    await rm(this.path(digest), { force: true });
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
    const isOld = async (path: string): Promise<boolean> => options.nowMs - (await stat(path)).mtimeMs > options.olderThanMs;
    for (const entry of await readdir(this.#ingestDir, { withFileTypes: true })) {
      const path = join(this.#ingestDir, entry.name);
      if (entry.isFile() && (await isOld(path))) await rm(path, { force: true });
    }
    for (const algorithm of ['sha256', 'sha512']) {
      const dir = join(this.#blobsDir, algorithm);
      for (const name of await readdir(dir)) if (name.startsWith(temporaryPrefix) && (await isOld(join(dir, name)))) await rm(join(dir, name), { force: true });
    }
  }
}

/** One blob coming in. `await using`: what is not committed stays for the next attempt, unless it turned out wrong. */
export class Ingest {
  readonly blob: BlobSize;
  readonly #file: FileHandle;
  readonly #paths: { readonly partial: string; readonly final: string };
  readonly #check: DigestCheck;
  #offset = 0;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isOpen = true;
  /** Bytes from an earlier attempt are among them: if the digest is wrong, they may be why. */
  #hasOldBytes = false;

  private constructor(blob: BlobSize, file: FileHandle, paths: { partial: string; final: string }) {
    this.blob = blob;
    this.#file = file;
    this.#paths = paths;
    this.#check = new DigestCheck(blob.digest);
  }

  static async begin(ctx: Ctx, blob: BlobSize, paths: { partial: string; final: string }): Promise<Ingest> {
    const file = await open(paths.partial, await exists(paths.partial) ? 'r+' : 'w+', 0o600);
    const ingest = new Ingest(blob, file, paths);
    try {
      await ingest.#takeUp(ctx);
    } catch (error) {
      await file.close();
      throw error;
    }
    return ingest;
  }

  async #takeUp(ctx: Ctx): Promise<void> {
    const { size } = await this.#file.stat();
    if (size > this.blob.sizeBytes) return this.restart();
    const buffer = Buffer.allocUnsafe(readChunkBytes);
    while (this.#offset < size) {
      ctx.signal.throwIfAborted();
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#offset);
      if (bytesRead === 0) break;
      this.#check.update(buffer.subarray(0, bytesRead));
      this.#offset += bytesRead;
    }
    this.#hasOldBytes = this.#offset > 0;
  }

  /** How many bytes are here: where the next one belongs. */
  get offset(): number {
    return this.#offset;
  }
  get isComplete(): boolean {
    return this.#offset === this.blob.sizeBytes;
  }
  get hasOldBytes(): boolean {
    return this.#hasOldBytes;
  }

  /** Forgets all bytes so far. */
  async restart(): Promise<void> {
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#file.truncate(0);
    this.#check.reset();
    this.#offset = 0;
    this.#hasOldBytes = false;
  }

  /** Appends bytes. Throws Fault invalid at the first byte too many. The chunk must not be changed afterwards. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#offset + chunk.length > this.blob.sizeBytes) {
      await this.#drop();
      throw new Fault('invalid', `blob ${this.blob.digest} is larger than the ${this.blob.sizeBytes} bytes that its manifest says`);
    }
    this.#check.update(chunk);
    this.#offset += chunk.length;
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes >= writeBatchBytes) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#waitingBytes === 0) return;
    const chunks = this.#waiting;
    let position = this.#offset - this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (let pending = chunks; pending.length > 0; ) {
      const { bytesWritten } = await this.#file.writev(pending, position);
      position += bytesWritten;
      pending = dropBytes(pending, bytesWritten);
    }
  }

  /** Makes it a blob. Throws Fault invalid with both digests when it is not what it should be; then nothing is kept. */
  async commit(options: { durable?: boolean } = {}): Promise<void> {
    await this.flush();
    const actual = this.#check.actual();
    if (actual !== this.blob.digest || !this.isComplete) {
      await this.#drop();
      throw new Fault('invalid', `wrong digest: expected ${this.blob.digest} (${this.blob.sizeBytes} bytes), got ${actual} (${this.#offset} bytes)`);
    }
    if (options.durable === true) await this.#file.sync();
    await rename(this.#paths.partial, this.#paths.final);
    if (options.durable === true) await syncDirectory(join(this.#paths.final, '..'));
  }

  async #drop(): Promise<void> {
    await rm(this.#paths.partial, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      await this.flush();
    } finally {
      await this.#file.close();
    }
  }
}

const exists = async (path: string): Promise<boolean> => {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
};

function dropBytes(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  const rest: Uint8Array[] = [];
  for (const chunk of chunks) {
    if (left >= chunk.length) left -= chunk.length;
    else {
      rest.push(left === 0 ? chunk : chunk.subarray(left));
      left = 0;
    }
  }
  return rest;
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
