/** A SPDY/3.1 client for tests, as Kubernetes' clients are: it opens streams, half-closes, resets and pings, and keeps no windows. */
import type { Duplex } from 'node:stream';
import { constants, deflateRawSync } from 'node:zlib';
import { dataFrames, finFrame, FrameReader, pingFrame, rstStreamFrame, windowUpdateFrame } from './frames.ts';
import { dictionary } from './header-block.ts';

export interface FakeStream {
  readonly id: number;
  /** All that the server sent on it. */
  received: Buffer;
  isReplied: boolean;
  isEnded: boolean;
  isReset: boolean;
  write(text: string | Buffer): void;
  end(): void;
  reset(): void;
}

export class FakeSpdyClient {
  readonly socket: Duplex;
  readonly streams = new Map<number, FakeStream>();
  readonly pongs: number[] = [];
  isGoneAway = false;
  #nextId = 1;
  #known: Buffer = dictionary;
  #isFirst = true;

  constructor(socket: Duplex) {
    this.socket = socket;
    const reader = new FrameReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      for (const frame of reader.push(chunk)) {
        if (frame.kind === 'ping') this.pongs.push(frame.id);
        if (frame.kind === 'goaway') this.isGoneAway = true;
        const stream = 'streamId' in frame ? this.streams.get(frame.streamId) : undefined;
        if (stream === undefined) continue;
        if (frame.kind === 'syn-reply') stream.isReplied = true;
        if (frame.kind === 'rst-stream') stream.isReset = true;
        if (frame.kind === 'data') {
          stream.received = Buffer.concat([stream.received, frame.bytes]);
          stream.isEnded ||= frame.isLast;
        }
      }
    });
  }

  open(headers: Readonly<Record<string, string>>, id = this.#nextId): FakeStream {
    this.#nextId = id + 2;
    const stream: FakeStream = {
      id, received: Buffer.alloc(0), isReplied: false, isEnded: false, isReset: false,
      write: (text) => dataFrames(id, Buffer.from(text)).forEach((each) => this.socket.write(each)),
      end: () => void this.socket.write(finFrame(id)),
      reset: () => void this.socket.write(rstStreamFrame(id, 5)),
    };
    this.streams.set(id, stream);
    this.socket.write(this.#synStream(id, headers));
    return stream;
  }

  ping(id: number): void {
    this.socket.write(pingFrame(id));
  }

  widen(stream: FakeStream, bytes: number): void {
    this.socket.write(windowUpdateFrame(stream.id, bytes));
  }

  /** SETTINGS with an initial window: a client that keeps windows. */
  announceWindow(bytes: number): void {
    const frame = Buffer.from('8003000400000000000000010000000700000000', 'hex');
    frame.writeUIntBE(12, 5, 3);
    frame.writeUInt32BE(bytes, 16);
    this.socket.write(frame);
  }

  #synStream(id: number, headers: Readonly<Record<string, string>>): Buffer {
    const entries = Object.entries(headers);
    const plain = Buffer.concat([word(entries.length), ...entries.flatMap(([name, value]) => [counted(name), counted(value)])]);
    const deflated = deflateRawSync(plain, { dictionary: this.#known, finishFlush: constants.Z_SYNC_FLUSH });
    const block = this.#isFirst ? Buffer.concat([Buffer.from('78f9e3c6a7c2', 'hex'), deflated]) : deflated;
    this.#isFirst = false;
    this.#known = Buffer.concat([this.#known, plain]).subarray(-32 * 1024);
    const payload = Buffer.concat([word(id), word(0), Buffer.alloc(2), block]);
    return Buffer.concat([Buffer.from([0x80, 3, 0, 1]), word(payload.length), payload]);
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const counted = (text: string): Buffer => Buffer.concat([word(Buffer.byteLength(text)), Buffer.from(text)]);
