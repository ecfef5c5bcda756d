/** A connection to a client as bytes: read one chunk at a time, written with back-pressure, closed without losing what was said last. */
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';

/** Of answers to what the client sends (pongs, replies); while more than this waits to be taken, nothing is read. */
const maxPendingReplyBytes = 64 * 1024;
/** For the client to close its side after it was told that this is the end. */
const lingerMs = 10_000;
/** While reading stands still for a process that does not read. */
const pingMs = 5000;

/** Calls `gone` when the client closes the connection, even while what it sent lies unread; returns the function that stops watching. */
export type WatchHangUp = (gone: () => void) => () => void;

export class Transport {
  readonly #socket: Duplex;
  readonly #watchHangUp: WatchHangUp | undefined;
  #onClose: (() => void) | undefined;
  #pendingReplyBytes = 0;
  #repliesTaken: (() => void) | undefined;

  /** Without `watchHangUp` a client that goes away while nothing is read from it is noticed only when something is written. */
  constructor(socket: Duplex, watchHangUp?: WatchHangUp) {
    this.#socket = socket;
    this.#watchHangUp = watchHangUp;
    // Reading, writing and 'close' tell it.
    socket.on('error', () => {});
    socket.once('close', () => this.#onClose?.());
  }

  /**
   * Hands each chunk to `take`, and waits for it. Returns when `take` has enough, the client closed its side or the connection broke; throws what
   * `take` throws. `ping` is sent when `take` is slow.
   */
  async read(take: (chunk: Buffer) => Promise<'more' | 'enough'>, ping: Buffer): Promise<void> {
    const chunks = this.#socket.iterator({ destroyOnReturn: false });
    for (;;) {
      const next = await chunks.next().catch(() => undefined);
      if (next === undefined || next.done === true) return;
      if ((await this.#whileOpen(take(next.value as Buffer), ping)) !== 'more') return;
      if (this.#pendingReplyBytes > maxPendingReplyBytes) await this.#whileOpen(this.#untilRepliesTaken(), ping);
    }
  }

  /**
   * The result of `work`, or 'closed' when the connection is closed before that.
   *
   * The end of a client lies behind what it sent, which nobody reads now. But a kernel whose process is gone answers a ping with a reset, and that
   * comes at once.
   */
  async #whileOpen<T>(work: Promise<T>, ping: Buffer): Promise<T | 'closed'> {
    let stopWatching: (() => void) | undefined;
    const pings = setInterval(() => {
      stopWatching ??= this.#watchHangUp?.(() => this.destroy());
      this.reply(ping);
    }, pingMs);
    // Not a race with one promise for all: it would remember every chunk.
    const { promise, resolve, reject } = Promise.withResolvers<T | 'closed'>();
    this.#onClose = () => resolve('closed');
    work.then(resolve, reject);
    try {
      return this.#socket.destroyed ? 'closed' : await promise;
    } finally {
      this.#onClose = undefined;
      clearInterval(pings);
      stopWatching?.();
    }
  }

  /** Calls `done` when the connection can take more, with an error when it never will. */
  write(buffers: readonly Buffer[], done?: (error?: Error | null) => void): void {
    if (!this.#socket.writable) return done?.(new Fault('canceled', 'the connection is closed'));
    if (buffers.length === 0) return done?.();
    this.#socket.cork();
    buffers.forEach((buffer, i) => this.#socket.write(buffer, i === buffers.length - 1 ? done : undefined));
    this.#socket.uncork();
  }

  /** For answers: never waits itself, but reading does while too many wait. Behind the end they are dropped. */
  reply(buffer: Buffer): void {
    if (!this.#socket.writable) return;
    this.#pendingReplyBytes += buffer.length;
    this.#socket.write(buffer, () => {
      this.#pendingReplyBytes -= buffer.length;
      if (this.#pendingReplyBytes <= maxPendingReplyBytes) this.#repliesTaken?.();
    });
  }

  /**
   * Sends what is written and says goodbye. To be called while `read` goes on: bytes that lie unread when a socket is closed make the kernel
   * reset the connection, and the client might lose the last words.
   */
  async end(ctx: Pick<Ctx, 'signal'>): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    const taken = new Promise<void>((resolve) => this.#socket.end(resolve));
    await Promise.race([taken, closed]);
    const late = new AbortController();
    await Promise.race([closed, sleep(lingerMs, undefined, { signal: AbortSignal.any([ctx.signal, late.signal]) }).catch(() => {})]);
    late.abort();
    this.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async #untilRepliesTaken(): Promise<void> {
    await new Promise<void>((resolve) => (this.#repliesTaken = resolve));
    this.#repliesTaken = undefined;
  }
}
