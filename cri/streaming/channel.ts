/**
 * One of several byte streams in one connection: a Duplex whose writes wait until the connection has taken them, and whose unread bytes are
 * counted over the whole connection. So memory is bounded whatever the client does, in both directions.
 */
import { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';

/** The connection, as its channels see it. */
export interface ChannelCarrier {
  /** Calls `done` when the connection can take more. */
  send(id: number, bytes: Buffer, done: (error?: Error | null) => void): void;
  /** Nothing more will be sent on this channel. */
  finish(id: number, done: (error?: Error | null) => void): void;
  /** The channel has room for more input, after it was full. */
  wantsInput(id: number): void;
  /** The channel is over; `isWhole` when both directions ended in order. */
  closed(id: number, isWhole: boolean): void;
}

const bufferBytes = 64 * 1024;

export class Channel extends Duplex {
  readonly id: number;
  readonly #carrier: ChannelCarrier;
  #isInputOver = false;

  constructor(id: number, carrier: ChannelCarrier) {
    super({ highWaterMark: bufferBytes });
    this.id = id;
    this.#carrier = carrier;
    // Whoever works with the channel learns it from its own read or write; without a listener an error would end the process.
    this.on('error', () => {});
  }

  /** False when the channel is full. Input behind the end, and of a channel that is closed, is dropped. */
  accept(bytes: Buffer): boolean {
    return this.#isInputOver || this.destroyed || bytes.length === 0 || this.push(bytes);
  }

  /** The client will send nothing more on this channel. May be called twice. */
  endInput(): void {
    if (this.#isInputOver || this.destroyed) return;
    this.#isInputOver = true;
    this.push(null);
  }

  override _read(): void {
    this.#carrier.wantsInput(this.id);
  }

  override _write(bytes: Buffer, _encoding: unknown, done: (error?: Error | null) => void): void {
    this.#carrier.send(this.id, bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#carrier.finish(this.id, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#carrier.closed(this.id, this.#isInputOver && this.writableFinished);
    done(error);
  }
}

/** Ends what is sent on `channel` and drops what it still receives; resolves when the connection has taken everything, or the channel broke. */
export async function endChannel(channel: Channel): Promise<void> {
  channel.resume();
  channel.end();
  await finished(channel, { readable: false }).catch(() => {});
}

/** Bytes that clients sent and nobody read yet; a channel that is full stops the others of its connection only beyond this. */
const maxUnreadBytes = 1024 * 1024;

/** The channels of one connection. */
export class Channels {
  readonly #open = new Map<number, Channel>();
  #wake: (() => void) | undefined;

  get size(): number {
    return this.#open.size;
  }

  get(id: number): Channel | undefined {
    return this.#open.get(id);
  }

  add(channel: Channel): Channel {
    this.#open.set(channel.id, channel);
    return channel;
  }

  remove(id: number): void {
    this.#open.delete(id);
    this.#wake?.();
  }

  /** Hands input to a channel, and makes the caller wait while too much lies unread. */
  deliver(channel: Channel, bytes: Buffer): Promise<void> | undefined {
    return channel.accept(bytes) || this.#unreadBytes() <= maxUnreadBytes ? undefined : this.#untilRead();
  }

  /** To be called when a channel was read from. */
  inputWanted(): void {
    this.#wake?.();
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#open.values()].map(endChannel));
  }

  destroyAll(error: Error): void {
    for (const channel of this.#open.values()) channel.destroy(error);
  }

  async #untilRead(): Promise<void> {
    while (this.#unreadBytes() > maxUnreadBytes) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    this.#wake = undefined;
  }

  #unreadBytes(): number {
    let bytes = 0;
    for (const channel of this.#open.values()) bytes += channel.readableLength;
    return bytes;
  }
}
