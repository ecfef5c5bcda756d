/** A connection to a client as bytes: read one chunk at a time, written with back-pressure, closed without losing what was said last. */
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';

/** Of answers to what the client sends (pongs, replies); while more than this waits to be taken, nothing is read. */
const maxPendingReplyBytes = 64 * 1024;
/** For the client to close its side after it was told that this is the end. */
const lingerMs = 10_000;

export class Transport {
  readonly #socket: Duplex;
  #pendingReplyBytes = 0;
  #repliesTaken: (() => void) | undefined;

  constructor(socket: Duplex) {
    this.#socket = socket;
    // Reading, writing and 'close' tell it.
    socket.on('error', () => {});
    socket.once('close', () => this.#repliesTaken?.());
  }

  /** Hands each chunk to `take`, and waits for it. Returns when `take` has enough, the client closed its side or the connection broke; throws what `take` throws. */
  async read(take: (chunk: Buffer) => Promise<'more' | 'enough'>): Promise<void> {
    const chunks = this.#socket.iterator({ destroyOnReturn: false });
    for (;;) {
      const next = await chunks.next().catch(() => undefined);
      if (next === undefined || next.done === true) return;
      if ((await take(next.value as Buffer)) === 'enough') return;
      if (this.#pendingReplyBytes > maxPendingReplyBytes) await this.#untilRepliesTaken();
    }
  }

  /** Calls `done` when the connection can take more. */
  write(buffers: readonly Buffer[], done?: (error?: Error | null) => void): void {
    if (buffers.length === 0) return done?.();
    this.#socket.cork();
    buffers.forEach((buffer, i) => this.#socket.write(buffer, i === buffers.length - 1 ? done : undefined));
    this.#socket.uncork();
  }

  /** For answers: never waits itself, but reading does while too many wait. */
  reply(buffer: Buffer): void {
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
