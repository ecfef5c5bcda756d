/**
 * Channels in one WebSocket: each message begins with the number of its channel, as a byte, or as a digit when the rest is base64. Since version 5
 * the message [255, n] half-closes channel n.
 *
 * Source: k8s.io/streaming, wsstream/conn.go.
 */
import { Fault } from '#host/fault.ts';
import { Channel, type ChannelCarrier, Channels } from '../channel.ts';
import type { MessagePiece, WebSocketConnection } from './connection.ts';

type Done = (error?: Error | null) => void;

export interface ChannelCoding {
  readonly isBase64: boolean;
  /** Version 5. */
  readonly canHalfClose: boolean;
}

const closeSignal = 255;
const digitZero = 48;
/** Of a message that we make: the reader may hold it whole. */
const maxMessageBytes = 64 * 1024;

export class WebSocketChannels implements ChannelCarrier {
  readonly #connection: WebSocketConnection;
  readonly #coding: ChannelCoding;
  readonly #channels = new Channels();
  /** Of the message that is being read. */
  #current: number | undefined;
  /** Less than a group of base64, in front of the next piece of the message. */
  #base64Rest = '';

  constructor(connection: WebSocketConnection, coding: ChannelCoding) {
    this.#connection = connection;
    this.#coding = coding;
  }

  add(id: number): Channel {
    return this.#channels.add(new Channel(id, this));
  }

  /** Returns when the client is gone or said goodbye; all channels are closed then. Fault invalid when it does not keep to the protocol. */
  async serve(): Promise<void> {
    try {
      await this.#connection.serve((piece) => this.#take(piece));
    } finally {
      this.hangUp();
    }
  }

  /** Sends what is written, and ends the connection. To be called while `serve` runs. */
  async end(ctx: { readonly signal: AbortSignal }): Promise<void> {
    await this.#channels.endAll();
    await this.#connection.end(ctx);
  }

  hangUp(): void {
    this.#channels.destroyAll(new Fault('canceled', 'the client is gone'));
    this.#connection.hangUp();
  }

  /** An empty message says that we are connected. */
  announce(id: number): void {
    this.#sendMessage(id, Buffer.alloc(0));
  }

  send(id: number, bytes: Buffer, done: Done): void {
    for (let at = 0; at < bytes.length; at += maxMessageBytes) {
      const end = at + maxMessageBytes;
      this.#sendMessage(id, bytes.subarray(at, end), end >= bytes.length ? done : undefined);
    }
    if (bytes.length === 0) done();
  }

  /** There is no message for it. */
  finish(_id: number, done: Done): void {
    done();
  }

  wantsInput(): void {
    this.#channels.inputWanted();
  }

  closed(id: number): void {
    this.#channels.remove(id);
  }

  #sendMessage(id: number, bytes: Buffer, done?: Done): void {
    if (this.#coding.isBase64) this.#connection.send('text', [Buffer.from(String.fromCharCode(digitZero + id) + bytes.toString('base64'), 'latin1')], done);
    else this.#connection.send('binary', [Buffer.from([id]), bytes], done);
  }

  #take(piece: MessagePiece): Promise<void> | undefined {
    if (piece.isFirst) {
      this.#current = undefined;
      this.#base64Rest = '';
    }
    let { bytes } = piece;
    if (this.#current === undefined) {
      const first = bytes[0];
      if (first === undefined) return undefined;
      this.#current = first;
      bytes = bytes.subarray(1);
    }
    if (this.#coding.canHalfClose && this.#current === closeSignal) {
      if (bytes[0] !== undefined) this.#channels.get(bytes[0])?.endInput();
      return undefined;
    }
    const channel = this.#channels.get(this.#coding.isBase64 ? this.#current - digitZero : this.#current);
    return channel === undefined ? undefined : this.#channels.deliver(channel, this.#coding.isBase64 ? this.#decode(bytes, piece.isLast) : bytes);
  }

  #decode(bytes: Buffer, isLast: boolean): Buffer {
    const text = this.#base64Rest + bytes.toString('latin1');
    const whole = isLast ? text.length : text.length - (text.length % 4);
    this.#base64Rest = text.slice(whole);
    return Buffer.from(text.slice(0, whole), 'base64');
  }
}
