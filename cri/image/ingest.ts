/**
 * One blob coming in: a file that is written at several places at once, and a digest that follows from the front.
 *
 *   ingest/<algorithm>-<hex>          the bytes         ingest/<algorithm>-<hex>.parts     which of them are here, when they do not simply end somewhere
 *
 * What is written in order is hashed from memory; what lies behind a gap is read again once the gap has closed. The note about parts is written after the
 * bytes that it speaks of and now and then only: a kill costs the last second.
 */
import { constants, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '#host/atomic-file.ts';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { readIfThere } from '#host/read-if-there.ts';
import { DigestCheck, type Digest } from './digest.ts';
import { Parts, type Part } from './parts.ts';

export interface BlobSize {
  readonly digest: Digest;
  readonly sizeBytes: number;
}
export interface IngestPaths {
  readonly partial: string;
  readonly final: string;
}

export const partsSuffix = '.parts';
const readChunkBytes = 1024 * 1024;
/** Bytes gathered before they are written: a call into the pool costs about as much as copying this. */
const writeBatchBytes = 512 * 1024;
const noteEveryMs = 1000;

/** Bytes of one part that are not written yet. */
interface Batch {
  chunks: Uint8Array[];
  bytes: number;
}

/** `await using`: what is not committed stays for the next attempt, unless it turned out wrong. */
export class Ingest {
  readonly blob: BlobSize;
  readonly #file: FileHandle;
  readonly #paths: IngestPaths;
  readonly #check: DigestCheck;
  readonly #batches = new Map<Part, Batch>();
  #parts: Parts;
  /** The digest has seen the bytes before this. */
  #hashedBytes = 0;
  #catchingUp: Promise<void> | undefined;
  /** Gaps were promised to be noted: the length of the file does not say what is here. */
  #hasGaps = false;
  #notedAtMs = 0;
  #noting: Promise<void> | undefined;
  #isOpen = true;
  #hasOldBytes = false;

  private constructor(blob: BlobSize, file: FileHandle, paths: IngestPaths) {
    this.blob = blob;
    this.#file = file;
    this.#paths = paths;
    this.#check = new DigestCheck(blob.digest);
    this.#parts = new Parts(blob.sizeBytes);
  }

  /** Takes up what an earlier attempt left. One at a time per digest: the caller's duty. */
  static async begin(ctx: Ctx, blob: BlobSize, paths: IngestPaths): Promise<Ingest> {
    const isThere = await exists(paths.partial);
    const file = await open(paths.partial, isThere ? 'r+' : 'w+', 0o600);
    const ingest = new Ingest(blob, file, paths);
    try {
      await ingest.#takeUp(isThere);
      ctx.signal.throwIfAborted();
    } catch (error) {
      await file.close();
      throw error;
    }
    return ingest;
  }

  async #takeUp(isThere: boolean): Promise<void> {
    const { size } = await this.#file.stat();
    const noted = await readNote(this.#paths.partial);
    const isRestored = noted === undefined || (isThere && this.#parts.restore(noted) && this.#parts.endBytes <= size);
    if (!isRestored || size > this.blob.sizeBytes) return this.restart();
    if (noted === undefined) this.#parts.restorePrefix(size);
    this.#hasGaps = noted !== undefined;
    this.#hasOldBytes = this.#parts.filledBytes > 0;
    this.#follow();
  }

  get isComplete(): boolean {
    return this.#parts.isComplete;
  }
  /** Bytes that are here, wherever. */
  get receivedBytes(): number {
    let waiting = 0;
    for (const { bytes } of this.#batches.values()) waiting += bytes;
    return this.#parts.filledBytes + waiting;
  }
  /** Bytes from an earlier attempt are among them: if the digest is wrong, they may be why. */
  get hasOldBytes(): boolean {
    return this.#hasOldBytes;
  }

  /** See Parts. */
  take(): Part | undefined {
    return this.#parts.take();
  }
  takeNext(part: Part): Part | undefined {
    return this.#parts.takeNext(part);
  }

  /** Where the next byte of the part belongs. */
  positionIn(part: Part): number {
    return part.start + part.filled + (this.#batches.get(part)?.bytes ?? 0);
  }

  /** Writes what has come of the part, and lets somebody else have it. */
  async release(part: Part): Promise<void> {
    try {
      await this.#flush(part);
    } finally {
      this.#batches.delete(part);
      this.#parts.release(part);
    }
  }

  /** Before bytes are written behind a gap: from now on there is a note of what is here. */
  async allowGaps(): Promise<void> {
    if (this.#hasGaps) return;
    this.#hasGaps = true;
    await this.#note();
  }

  /** Forgets all bytes so far. Nobody may hold a part. */
  async restart(): Promise<void> {
    await this.#catchingUp?.catch(() => undefined);
    this.#parts = new Parts(this.blob.sizeBytes);
    this.#batches.clear();
    await this.#file.truncate(0);
    await rm(`${this.#paths.partial}${partsSuffix}`, { force: true });
    this.#hasGaps = false;
    this.#check.reset();
    this.#hashedBytes = 0;
    this.#hasOldBytes = false;
  }

  /** The next bytes of a part, no more than fit. The chunk must not be changed afterwards. Waits for the disk now and then. */
  async write(part: Part, chunk: Uint8Array): Promise<void> {
    const batch = this.#batches.get(part) ?? { chunks: [], bytes: 0 };
    this.#batches.set(part, batch);
    batch.chunks.push(chunk);
    batch.bytes += chunk.length;
    if (batch.bytes >= writeBatchBytes || this.positionIn(part) === part.end) await this.#flush(part);
  }

  async #flush(part: Part): Promise<void> {
    const batch = this.#batches.get(part);
    if (batch === undefined || batch.bytes === 0) return;
    const { chunks, bytes } = batch;
    let position = part.start + part.filled;
    const isNext = position === this.#hashedBytes;
    for (let pending = chunks; pending.length > 0; ) {
      const { bytesWritten } = await this.#file.writev(pending, position);
      position += bytesWritten;
      pending = dropBytes(pending, bytesWritten);
    }
    this.#batches.delete(part);
    this.#parts.fill(part, bytes);
    if (isNext) {
      for (const chunk of chunks) this.#check.update(chunk);
      this.#hashedBytes += bytes;
    }
    this.#follow();
    if (this.#hasGaps && monotonicMs() - this.#notedAtMs >= noteEveryMs) await this.#note();
  }

  /** Reads what the digest has not seen of the bytes that are here without a gap. */
  #follow(): void {
    if (this.#hashedBytes >= this.#parts.prefixBytes) return;
    this.#catchingUp ??= this.#catchUp().finally(() => (this.#catchingUp = undefined));
    // Whoever commits asks again, and gets the error then.
    this.#catchingUp.catch(() => undefined);
  }

  async #catchUp(): Promise<void> {
    const buffer = Buffer.allocUnsafe(readChunkBytes);
    while (this.#isOpen && this.#hashedBytes < this.#parts.prefixBytes) {
      const { bytesRead } = await this.#file.read(buffer, 0, Math.min(buffer.length, this.#parts.prefixBytes - this.#hashedBytes), this.#hashedBytes);
      if (bytesRead === 0) throw new Fault('internal', `download of ${this.blob.digest}: the file is shorter than what was written`);
      this.#check.update(buffer.subarray(0, bytesRead));
      this.#hashedBytes += bytesRead;
    }
  }

  /** One note at a time. */
  async #note(): Promise<void> {
    this.#notedAtMs = monotonicMs();
    await this.#noting;
    this.#noting = writeNote(`${this.#paths.partial}${partsSuffix}`, JSON.stringify(this.#parts.toFilled()));
    await this.#noting;
  }

  /** Makes it a blob. Throws Fault invalid with both digests when it is not what it should be; then nothing is kept. */
  async commit(options: { durable?: boolean } = {}): Promise<void> {
    while (this.#hashedBytes < this.#parts.prefixBytes) {
      this.#follow();
      await this.#catchingUp;
    }
    const actual = this.#check.actual();
    if (actual !== this.blob.digest || !this.isComplete) {
      await this.discard();
      throw new Fault('invalid', `wrong digest: expected ${this.blob.digest} (${this.blob.sizeBytes} bytes), got ${actual} (${this.#hashedBytes} bytes)`);
    }
    if (options.durable === true) await this.#file.sync();
    // The note first: without its file it would be believed by the next attempt.
    await rm(`${this.#paths.partial}${partsSuffix}`, { force: true });
    await rename(this.#paths.partial, this.#paths.final);
    if (options.durable === true) await syncDirectory(dirname(this.#paths.final));
  }

  /** Nothing is kept. May run twice. */
  async discard(): Promise<void> {
    await rm(`${this.#paths.partial}${partsSuffix}`, { force: true });
    await rm(this.#paths.partial, { force: true });
    this.#hasGaps = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    try {
      for (const part of this.#batches.keys()) await this.#flush(part);
      if (this.receivedBytes === 0 && this.blob.sizeBytes > 0) await this.discard();
      else if (this.#hasGaps && !this.isComplete) await this.#note();
    } finally {
      this.#isOpen = false;
      await this.#catchingUp?.catch(() => undefined);
      await this.#file.close();
    }
  }
}

/** In place, by one write: numbers only grow, so the text never gets shorter, and a kill leaves no temporary file. */
async function writeNote(file: string, text: string): Promise<void> {
  await using handle = await open(file, constants.O_WRONLY | constants.O_CREAT, 0o600);
  await handle.write(text, 0);
}

async function readNote(partial: string): Promise<number[] | undefined> {
  const text = await readIfThere(`${partial}${partsSuffix}`);
  if (text === undefined) return undefined;
  try {
    const noted: unknown = JSON.parse(text);
    return Array.isArray(noted) ? (noted as number[]) : [];
  } catch {
    return [];
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
