/**
 * One SPDY/3.1 connection, server side: the client opens streams, each becomes a Channel.
 *
 *   stream   SYN_STREAM ──▶ open (SYN_REPLY) ──▶ half closed (FIN of one side) ──▶ closed (FIN of both)
 *               └─ refused: RST_STREAM               └── RST_STREAM of either side ──────▶ closed
 *
 * Frames are handled one after the other. A stream that nobody reads stops them all, but only after a mebibyte (Channels).
 */
import { Fault, isFault } from '#host/fault.ts';
import { Channel, type ChannelCarrier, Channels } from '../channel.ts';
import type { Transport } from '../transport.ts';
import {
  dataFrames, finFrame, type Frame, FrameReader, goAwayFrame, goAwayStatus, pingFrame, resetStatus, rstStreamFrame, synReplyFrame, windowUpdateFrame,
} from './frames.ts';
import { emptyHeaderBlock, type Headers, type InflateWindow, readHeaderBlock } from './header-block.ts';
import { defaultWindowBytes, SendWindow } from './send-window.ts';

/** False refuses the stream. Called before the client may count on the stream. */
export type OnStream = (channel: Channel, headers: Headers) => boolean;

type Done = (error?: Error | null) => void;

interface Outgoing {
  readonly window: SendWindow;
  /** Waits for the window. */
  held: { readonly bytes: Buffer; readonly done: Done } | undefined;
}

/** kubectl port-forward opens two per connection. */
const maxStreams = 4096;
/** Even, for a server. Nobody waits for the answer. */
const ourPingId = 2;
/** Consumed input that is worth a WINDOW_UPDATE: half a window. */
const updateBytes = defaultWindowBytes / 2;

export class SpdySession implements ChannelCarrier {
  readonly #transport: Transport;
  readonly #onStream: OnStream;
  readonly #channels = new Channels();
  readonly #outgoing = new Map<number, Outgoing>();
  /** Input by stream that no WINDOW_UPDATE has answered yet. */
  readonly #unanswered = new Map<number, number>();
  #headerWindow: InflateWindow;
  #hasReplied = false;
  #lastStreamId = 0;
  #initialWindowBytes = defaultWindowBytes;
  /** The client keeps windows. */
  #isWindowed = false;
  #isGoingAway = false;

  constructor(transport: Transport, onStream: OnStream) {
    this.#transport = transport;
    this.#onStream = onStream;
  }

  /** Returns when the client is gone or said goodbye; all streams are closed then. Fault invalid when it does not speak SPDY/3.1. */
  async serve(): Promise<void> {
    const reader = new FrameReader();
    try {
      await this.#transport.read(async (chunk) => {
        for (const frame of reader.push(chunk)) await this.#handle(frame);
        return 'more';
      }, pingFrame(ourPingId));
    } catch (error) {
      if (isFault(error, 'invalid')) this.#transport.write([goAwayFrame(this.#lastStreamId, goAwayStatus.protocolError)]);
      throw error;
    } finally {
      this.hangUp();
    }
  }

  /** Sends what is written, ends all streams and then the connection. To be called while `serve` runs. */
  async end(ctx: { readonly signal: AbortSignal }): Promise<void> {
    this.#isGoingAway = true;
    await this.#channels.endAll();
    this.#transport.write([goAwayFrame(this.#lastStreamId, goAwayStatus.ok)]);
    await this.#transport.end(ctx);
  }

  /** All streams break, and the connection. May be called twice. */
  hangUp(): void {
    this.#isGoingAway = true;
    this.#channels.destroyAll(new Fault('canceled', 'the client is gone'));
    this.#transport.destroy();
  }

  send(id: number, bytes: Buffer, done: Done): void {
    const out = this.#outgoing.get(id);
    if (out === undefined || !this.#isWindowed) {
      out?.window.sent(bytes.length);
      this.#transport.write(dataFrames(id, bytes), done);
      return;
    }
    out.held = { bytes, done };
    this.#sendHeld(id, out);
  }

  finish(id: number, done: Done): void {
    this.#transport.write([finFrame(id)], done);
  }

  wantsInput(id: number): void {
    this.#channels.inputWanted();
    const bytes = this.#unanswered.get(id) ?? 0;
    if (bytes < updateBytes) return;
    this.#unanswered.delete(id);
    this.#transport.reply(windowUpdateFrame(id, bytes));
  }

  closed(id: number, isWhole: boolean): void {
    const known = this.#channels.get(id) !== undefined;
    this.#channels.remove(id);
    this.#outgoing.get(id)?.held?.done(new Fault('canceled', 'the stream was closed'));
    this.#outgoing.delete(id);
    this.#unanswered.delete(id);
    if (known && !isWhole) this.#transport.reply(rstStreamFrame(id, resetStatus.cancel));
  }

  async #handle(frame: Frame): Promise<void> {
    switch (frame.kind) {
      case 'data':
        return await this.#receive(frame.streamId, frame.bytes, frame.isLast);
      case 'syn-stream':
        return this.#open(frame.streamId, frame.isLast, this.#headers(frame.headerBlock));
      case 'headers':
      case 'syn-reply':
        // Nobody sends any to a server, but their headers belong to what later ones refer to.
        this.#headers(frame.headerBlock);
        if (frame.isLast) this.#channels.get(frame.streamId)?.endInput();
        return;
      case 'rst-stream': {
        const channel = this.#channels.get(frame.streamId);
        this.#channels.remove(frame.streamId);
        channel?.destroy(new Fault('canceled', 'the client reset the stream'));
        return;
      }
      case 'settings':
        return frame.initialWindowBytes === undefined ? undefined : this.#resizeWindows(frame.initialWindowBytes);
      case 'window-update':
        return this.#widen(frame.streamId, frame.bytes);
      case 'ping':
        // An even id is the answer to a ping of ours.
        if (frame.id % 2 === 1) this.#transport.reply(pingFrame(frame.id));
        return;
      case 'goaway':
        // The client closes the connection when its streams are through.
        this.#isGoingAway = true;
        return;
    }
  }

  #headers(block: Buffer): Headers {
    const { headers, window } = readHeaderBlock(block, this.#headerWindow);
    this.#headerWindow = window;
    return headers;
  }

  #open(id: number, isLast: boolean, headers: Headers): void {
    if (this.#isGoingAway) return;
    if (id % 2 === 0 || id <= this.#lastStreamId) return this.#transport.reply(rstStreamFrame(id, resetStatus.protocolError));
    this.#lastStreamId = id;
    if (this.#channels.size >= maxStreams) return this.#transport.reply(rstStreamFrame(id, resetStatus.refusedStream));
    const channel = this.#channels.add(new Channel(id, this));
    this.#outgoing.set(id, { window: new SendWindow(this.#initialWindowBytes), held: undefined });
    const replied = synReplyFrame(id, emptyHeaderBlock(!this.#hasReplied));
    if (!this.#onStream(channel, headers)) {
      this.#channels.remove(id);
      channel.destroy();
      return this.#transport.reply(rstStreamFrame(id, resetStatus.refusedStream));
    }
    this.#hasReplied = true;
    this.#transport.reply(replied);
    if (isLast) channel.endInput();
  }

  async #receive(id: number, bytes: Buffer, isLast: boolean): Promise<void> {
    const channel = this.#channels.get(id);
    // It was reset, and the client does not know yet.
    if (channel === undefined) return;
    this.#unanswered.set(id, (this.#unanswered.get(id) ?? 0) + bytes.length);
    await this.#channels.deliver(channel, bytes);
    if (isLast) channel.endInput();
  }

  #resizeWindows(initialBytes: number): void {
    const change = initialBytes - this.#initialWindowBytes;
    this.#initialWindowBytes = initialBytes;
    for (const id of this.#outgoing.keys()) this.#widen(id, change);
    this.#isWindowed = true;
  }

  #widen(id: number, bytes: number): void {
    this.#isWindowed = true;
    const out = this.#outgoing.get(id);
    if (out === undefined) return;
    if (!out.window.allow(bytes)) throw new Fault('invalid', `SPDY: the window of stream ${id} is too large`);
    this.#sendHeld(id, out);
  }

  #sendHeld(id: number, out: Outgoing): void {
    if (out.held === undefined) return;
    const { bytes, done } = out.held;
    const part = bytes.subarray(0, Math.max(0, out.window.left));
    if (part.length === 0) return;
    out.window.sent(part.length);
    const rest = bytes.subarray(part.length);
    out.held = rest.length === 0 ? undefined : { bytes: rest, done };
    this.#transport.write(dataFrames(id, part), out.held === undefined ? done : undefined);
  }
}
