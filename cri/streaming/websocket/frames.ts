/**
 * Frames of RFC 6455 to bytes and back, server side. Pure. Messages are handed on piece by piece as they arrive, so that a large one costs no
 * memory; a control frame is collected, and has 125 bytes at most.
 *
 *   fin 1 | reserved 3 | opcode 4 | masked 1 | length 7, or 126 and 16 bits, or 127 and 64 bits | mask 32 | payload
 */
import { Fault } from '#host/fault.ts';

export type Piece =
  | { readonly kind: 'message'; readonly bytes: Buffer; readonly isFirst: boolean; readonly isLast: boolean }
  | { readonly kind: 'ping'; readonly bytes: Buffer }
  | { readonly kind: 'pong' }
  | { readonly kind: 'close' };

export const closeCode = { normal: 1000, protocolError: 1002 } as const;

const opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const flagFin = 0x80;
const flagsReserved = 0x70;
const flagMasked = 0x80;
const maxControlBytes = 125;
const maskBytes = 4;

interface Open {
  readonly code: number;
  readonly isFin: boolean;
  readonly mask: Buffer;
  readonly length: number;
  read: number;
}

/** Reads frames of a client out of a stream of bytes that is cut anywhere. */
export class PieceReader {
  #head = Buffer.alloc(0);
  #open: Open | undefined;
  #control = Buffer.alloc(0);
  /** Between the first and the last frame of a message. */
  #isInMessage = false;
  #isFirst = true;

  /** The pieces that `chunk` completes; it unmasks them in place, and they are views of it. Fault invalid when it is no WebSocket; the reader is of no use then. */
  push(chunk: Buffer): Piece[] {
    const pieces: Piece[] = [];
    for (let rest = chunk; ; ) {
      if (this.#open === undefined) {
        if (rest.length === 0) return pieces;
        rest = this.#readHead(rest);
        continue;
      }
      const open: Open = this.#open;
      if (rest.length === 0 && open.read < open.length) return pieces;
      const bytes = rest.subarray(0, open.length - open.read);
      unmask(bytes, open.mask, open.read);
      open.read += bytes.length;
      rest = rest.subarray(bytes.length);
      if (open.read === open.length) this.#open = undefined;
      if (open.code >= opcode.close) this.#takeControl(open, bytes, pieces);
      else this.#takeMessage(open, bytes, pieces);
    }
  }

  /** Collects the head byte by byte group until it is whole; returns what lies behind it. */
  #readHead(chunk: Buffer): Buffer {
    const had = this.#head.length;
    const head = Buffer.concat([this.#head, chunk.subarray(0, 14)]).subarray(0, 14);
    const size = head.length < 2 ? undefined : headBytes(head.readUInt8(1));
    if (size === undefined || head.length < size) {
      this.#head = head;
      return chunk.subarray(chunk.length);
    }
    this.#head = Buffer.alloc(0);
    this.#open = this.#openFrame(head.subarray(0, size));
    return chunk.subarray(size - had);
  }

  #openFrame(head: Buffer): Open {
    const [flags, second] = [head.readUInt8(0), head.readUInt8(1)];
    const code = flags & 0x0f;
    const isFin = (flags & flagFin) !== 0;
    const short = second & 0x7f;
    const length = short < 126 ? short : short === 126 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
    if ((flags & flagsReserved) !== 0) throw new Fault('invalid', 'WebSocket: a frame uses an extension that was not agreed on');
    if ((second & flagMasked) === 0) throw new Fault('invalid', 'WebSocket: a frame of a client is not masked');
    if (!Number.isSafeInteger(length)) throw new Fault('invalid', 'WebSocket: a frame is too long');
    this.#checkOrder(code, isFin, length);
    return { code, isFin, length, mask: Buffer.from(head.subarray(-maskBytes)), read: 0 };
  }

  #checkOrder(code: number, isFin: boolean, length: number): void {
    if (code >= opcode.close) {
      if (code > opcode.pong) throw new Fault('invalid', `WebSocket: a frame of the unknown kind ${code}`);
      if (!isFin || length > maxControlBytes) throw new Fault('invalid', 'WebSocket: a control frame is too long, or in parts');
      this.#control = Buffer.alloc(0);
      return;
    }
    if (code > opcode.binary) throw new Fault('invalid', `WebSocket: a frame of the unknown kind ${code}`);
    if ((code === opcode.continuation) !== this.#isInMessage) throw new Fault('invalid', 'WebSocket: the parts of a message are out of order');
    if (!this.#isInMessage) this.#isFirst = true;
    this.#isInMessage = !isFin;
  }

  #takeMessage(open: Open, bytes: Buffer, pieces: Piece[]): void {
    const isLast = open.isFin && open.read === open.length;
    pieces.push({ kind: 'message', bytes, isFirst: this.#isFirst, isLast });
    this.#isFirst = false;
  }

  #takeControl(open: Open, bytes: Buffer, pieces: Piece[]): void {
    this.#control = Buffer.concat([this.#control, bytes]);
    if (open.read < open.length) return;
    if (open.code === opcode.ping) pieces.push({ kind: 'ping', bytes: this.#control });
    else pieces.push({ kind: open.code === opcode.pong ? 'pong' : 'close' });
  }
}

/** Of a client's frame, by its second byte. */
function headBytes(second: number): number {
  const short = second & 0x7f;
  return 2 + (short < 126 ? 0 : short === 126 ? 2 : 8) + ((second & flagMasked) === 0 ? 0 : maskBytes);
}

function unmask(bytes: Buffer, mask: Buffer, from: number): void {
  // A copy of the mask per byte of the frame; the loop is what V8 makes fast.
  const [a = 0, b = 0, c = 0, d = 0] = [mask[from & 3], mask[(from + 1) & 3], mask[(from + 2) & 3], mask[(from + 3) & 3]];
  const whole = bytes.length - (bytes.length & 3);
  for (let i = 0; i < whole; i += 4) {
    bytes[i] = (bytes[i] ?? 0) ^ a;
    bytes[i + 1] = (bytes[i + 1] ?? 0) ^ b;
    bytes[i + 2] = (bytes[i + 2] ?? 0) ^ c;
    bytes[i + 3] = (bytes[i + 3] ?? 0) ^ d;
  }
  for (let i = whole; i < bytes.length; i++) bytes[i] = (bytes[i] ?? 0) ^ (mask[(from + i) & 3] ?? 0);
}

function head(code: number, length: number): Buffer {
  const size = length < 126 ? 2 : length < 0x1_0000 ? 4 : 10;
  const bytes = Buffer.alloc(size);
  bytes.writeUInt8(flagFin | code, 0);
  bytes.writeUInt8(size === 2 ? length : size === 4 ? 126 : 127, 1);
  if (size === 4) bytes.writeUInt16BE(length, 2);
  if (size === 10) bytes.writeBigUInt64BE(BigInt(length), 2);
  return bytes;
}

/** One whole message made of `parts`. */
export function messageFrame(kind: 'text' | 'binary', parts: readonly Buffer[]): Buffer[] {
  return [head(opcode[kind], parts.reduce((sum, part) => sum + part.length, 0)), ...parts];
}

/** The answer to a ping, with its payload. */
export const pongFrame = (payload: Buffer): Buffer => Buffer.concat([head(opcode.pong, payload.length), payload]);

/** Without payload. */
export const pingFrame = head(opcode.ping, 0);

export function closeFrame(code: number): Buffer {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return Buffer.concat([head(opcode.close, 2), payload]);
}
