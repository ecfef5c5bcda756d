/**
 * The bytes of one blob over one or several connections: goes on where one broke, and notices when nothing comes any more.
 *
 * One connection leads: it asks again after failures, and with it the download fails. While it is slow, others help: each fetches a part by a range
 * request and simply goes away when something is wrong; its part is then the leader's again. A registry without ranges is asked for one only once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import { streamed } from '#host/memory.ts';
import type { Ingest } from './ingest.ts';
import type { Part } from './parts.ts';
import { addressOf, type Endpoint } from './registry-hosts.ts';
import { RegistryError } from './registry-http.ts';
import type { BlobStream, RegistrySession } from './registry.ts';

/** A connection on which nothing comes for this long is given up for another. */
const maxStallMs = 60_000;
/** Tries in a row that bring no byte at all. */
const maxFruitless = 5;
/** Time to see what one more connection brings before the next. */
const helpEveryMs = 100;
/** What is done that soon needs no help. */
const minRestMs = 400;
const minRestBytes = 2 * 1024 * 1024;
/** After one failed. */
const helpPauseMs = 5000;

export class BlobDownload {
  readonly #session: RegistrySession;
  readonly #ingest: Ingest;
  readonly #maxConnections: number;
  readonly #helpers = new Set<Promise<void>>();
  readonly #oldBytes: number;
  #beganAtMs: number | undefined;
  #helpAtMs = 0;
  #hasRanges = true;
  #wasSplit = false;
  #sender: Endpoint | undefined;

  constructor(session: RegistrySession, ingest: Ingest, maxConnections: number) {
    this.#session = session;
    this.#ingest = ingest;
    this.#maxConnections = maxConnections;
    this.#oldBytes = ingest.receivedBytes;
  }

  /** Who sent the last bytes of the leader. */
  get sender(): Endpoint | undefined {
    return this.#sender;
  }
  get wasSplit(): boolean {
    return this.#wasSplit;
  }

  /** Until all bytes are here, or it has failed; nobody writes any more after that. */
  async run(outer: Ctx): Promise<void> {
    const end = new AbortController();
    const ctx = { ...outer, signal: AbortSignal.any([outer.signal, end.signal]) };
    try {
      using _connection = await this.#session.connections.take(ctx);
      await this.#lead(ctx);
    } finally {
      end.abort();
      await Promise.all(this.#helpers);
    }
  }

  async #lead(ctx: Ctx): Promise<void> {
    const { progressTimeoutMs, retryDelayMs } = this.#session;
    let fruitless = 0;
    let progressAtMs = monotonicMs();
    while (!this.#ingest.isComplete) {
      const before = this.#ingest.receivedBytes;
      const part = this.#ingest.take();
      try {
        if (part !== undefined) await this.#transfer(ctx, part, { isHelper: false });
        else if (this.#helpers.size > 0) await Promise.race(this.#helpers);
        else throw new Fault('internal', `download of ${this.#ingest.blob.digest}: a part is lost`);
      } catch (error) {
        ctx.signal.throwIfAborted();
        if (isErrno(error, 'ENOSPC', 'EDQUOT')) throw new Fault('exhausted', 'no space left on the disk', error);
        if (!mayRetry(error, before > 0)) throw error;
        if (this.#sender !== undefined) this.#session.demote(this.#sender);
        if (this.#ingest.receivedBytes > before) {
          fruitless = 0;
          progressAtMs = monotonicMs();
        } else fruitless += 1;
        const idleMs = monotonicMs() - progressAtMs;
        if (idleMs >= progressTimeoutMs) throw new Fault('timeout', `progress timeout: no data for ${Math.round(idleMs / 1000)} s (${this.#howFar()})`, error);
        if (fruitless >= maxFruitless) throw error;
        ctx.log.debug({ blob: this.#ingest.blob.digest, received: this.#ingest.receivedBytes, why: explain(error) }, 'download goes on where it stopped');
        await sleep(Math.min(retryDelayMs * 2 ** fruitless, progressTimeoutMs), undefined, { signal: ctx.signal });
      }
    }
  }

  /** One more connection, when there is much left, it takes long, and one is free. */
  #callHelp(ctx: Ctx): void {
    const nowMs = monotonicMs();
    this.#beganAtMs ??= nowMs;
    if (!this.#hasRanges || this.#helpers.size + 1 >= this.#maxConnections || nowMs < Math.max(this.#helpAtMs, this.#beganAtMs + helpEveryMs)) return;
    const received = this.#ingest.receivedBytes;
    const restBytes = this.#ingest.blob.sizeBytes - received;
    const restMs = (restBytes / Math.max(1, received - this.#oldBytes)) * (nowMs - this.#beganAtMs);
    if (restBytes < minRestBytes || restMs < minRestMs) return;
    const connection = this.#session.connections.tryTake();
    if (connection === undefined) return;
    this.#helpAtMs = nowMs + helpEveryMs;
    const helper = this.#help(ctx, connection).finally(() => this.#helpers.delete(helper));
    this.#helpers.add(helper);
  }

  /** Never fails. */
  async #help(ctx: Ctx, connection: Disposable): Promise<void> {
    using _connection = connection;
    try {
      await this.#ingest.allowGaps();
      for (let part = this.#ingest.take(); part !== undefined; part = this.#ingest.take()) await this.#transfer(ctx, part, { isHelper: true });
    } catch (error) {
      if (ctx.signal.aborted) return;
      if (error instanceof RegistryError && error.status === undefined && !error.isTemporary) this.#hasRanges = false;
      this.#helpAtMs = monotonicMs() + Math.max(helpPauseMs, error instanceof RegistryError ? (error.retryAfterMs ?? 0) : 0);
      ctx.log.debug({ blob: this.#ingest.blob.digest, why: explain(error) }, 'a connection that helped has ended');
    }
  }

  /** One connection's worth, beginning with `part`, which is ours. Ends without error only when the answer brought what was asked for. */
  async #transfer(ctx: Ctx, part: Part, { isHelper }: { readonly isHelper: boolean }): Promise<void> {
    let current: Part | 'end' | 'taken' = part;
    let received: BlobStream | undefined;
    try {
      const from = this.#ingest.positionIn(part);
      const to = isHelper || this.#helpers.size > 0 ? part.end : undefined;
      received = await this.#session.blob(ctx, this.#ingest.blob, { from, to }, { once: isHelper });
      if (received.offset !== from) this.#hasRanges = false;
      if (isHelper) this.#wasSplit = true;
      else this.#sender = received.endpoint;
      let skip = from - received.offset;
      for await (const chunk of this.#watched(received)) {
        if (!isHelper) this.#callHelp(ctx);
        const wanted = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - wanted.length;
        if (wanted.length > 0) current = current === 'end' ? this.#refuseMore() : await this.#put(current, wanted, received.isBounded);
        if (current === 'taken') return;
      }
      if (current !== 'end') throw endedEarly(received, this.#howFar());
    } finally {
      received?.stream.destroy();
      if (typeof current !== 'string') await this.#ingest.release(current);
    }
  }

  /** Where the next bytes belong: in a part, behind the end of what was asked for, or where somebody else is at work. */
  async #put(part: Part | 'taken', chunk: Uint8Array, isBounded: boolean): Promise<Part | 'end' | 'taken'> {
    let current: Part | 'taken' | undefined = part;
    for (let rest = chunk; rest.length > 0 && current !== 'taken'; ) {
      const piece = rest.subarray(0, current.end - this.#ingest.positionIn(current));
      await this.#ingest.write(current, piece);
      rest = rest.subarray(piece.length);
      if (this.#ingest.positionIn(current) < current.end) continue;
      await this.#ingest.release(current);
      if (isBounded || current.end === this.#ingest.blob.sizeBytes) return rest.length > 0 ? this.#refuseMore() : 'end';
      current = this.#ingest.takeNext(current) ?? 'taken';
    }
    return current;
  }

  #refuseMore(): never {
    const { blob } = this.#ingest;
    throw new Fault('invalid', `blob ${blob.digest} is larger than the ${blob.sizeBytes} bytes that its manifest says`);
  }

  /** The chunks of a stream, which ends with an error when nothing comes for too long. The time that the disk takes does not count. */
  async *#watched({ stream }: BlobStream): AsyncGenerator<Uint8Array> {
    // Every endpoint gets its turn within the progress timeout.
    const limitMs = Math.min(maxStallMs, this.#session.progressTimeoutMs / this.#session.endpointCount);
    let isWaiting = true;
    const timer = setTimeout(() => (isWaiting ? stream.destroy(new Error(`no data for ${limitMs / 1000} s`)) : timer.refresh()), limitMs);
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        isWaiting = false;
        streamed(chunk.length);
        yield chunk;
        isWaiting = true;
        timer.refresh();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #howFar(): string {
    return `${this.#ingest.receivedBytes} of ${this.#ingest.blob.sizeBytes} bytes of blob ${this.#ingest.blob.digest}`;
  }
}

/** What the registry refuses for good stays refused; once bytes have come, even "connection refused" may be a registry that restarts. */
const mayRetry = (error: unknown, hasBegun: boolean): boolean =>
  error instanceof RegistryError ? error.isTemporary || (hasBegun && error.status === undefined && error.kind !== 'invalid') : !(error instanceof Fault);

const endedEarly = ({ endpoint }: BlobStream, howFar: string): RegistryError =>
  new RegistryError('unavailable', `${addressOf(endpoint)}: the transfer ended early (${howFar})`, { isTemporary: true });
