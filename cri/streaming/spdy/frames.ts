/**
 * Frames of SPDY/3.1 to bytes and back. Pure. Data frames are handed on piece by piece as they arrive, so that a frame of 16 MiB costs no memory;
 * a control frame is collected, and is short.
 *
 *   control  1 | version 15 | type 16 | flags 8 | length 24 | payload
 *   data     0 | stream id 31         | flags 8 | length 24 | payload
 *
 * Source: SPDY Protocol Draft 3.1, section 2; github.com/moby/spdystream, which is what every Kubernetes client speaks.
 */
import { Fault } from '#host/fault.ts';

export type Frame =
  /** A part of a data frame; `isLast` when nothing follows on the stream, in whichever frame. */
  | { readonly kind: 'data'; readonly streamId: number; readonly bytes: Buffer; readonly isLast: boolean }
  | { readonly kind: 'syn-stream' | 'syn-reply' | 'headers'; readonly streamId: number; readonly isLast: boolean; readonly headerBlock: Buffer }
  | { readonly kind: 'rst-stream'; readonly streamId: number; readonly status: number }
  | { readonly kind: 'settings'; readonly initialWindowBytes: number | undefined }
  | { readonly kind: 'ping'; readonly id: number }
  | { readonly kind: 'goaway'; readonly lastStreamId: number }
  | { readonly kind: 'window-update'; readonly streamId: number; readonly bytes: number };

export const resetStatus = { protocolError: 1, refusedStream: 3, cancel: 5 } as const;
export const goAwayStatus = { ok: 0, protocolError: 1 } as const;

const type = { synStream: 1, synReply: 2, rstStream: 3, settings: 4, ping: 6, goAway: 7, headers: 8, windowUpdate: 9 } as const;
const flagFin = 0x01;
const version = 3;
const headBytes = 8;
const settingInitialWindow = 7;
/** Header blocks of Kubernetes' clients take less than 100 bytes. */
const maxControlBytes = 16 * 1024;
/** Of a data frame that we make: other streams get their turn after it, and the reader allocates it whole. */
const maxDataBytes = 64 * 1024;

/** What is being read behind a frame's head. */
type Open =
  | { readonly kind: 'data'; readonly streamId: number; readonly isLast: boolean; left: number }
  | { readonly kind: 'control'; readonly type: number; readonly flags: number; readonly payload: Buffer; filled: number };

/** Reads frames out of a stream of bytes that is cut anywhere. */
export class FrameReader {
  readonly #head = Buffer.alloc(headBytes);
  #headFilled = 0;
  #open: Open | undefined;

  /** The frames that `chunk` completes. Their bytes are views of `chunk`. Fault invalid when it is not SPDY/3.1; the reader is of no use then. */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    for (let rest = chunk; rest.length > 0 || isComplete(this.#open); ) {
      if (this.#open === undefined) rest = this.#readHead(rest);
      else if (this.#open.kind === 'data') rest = this.#readData(this.#open, rest, frames);
      else rest = this.#readControl(this.#open, rest, frames);
    }
    return frames;
  }

  #readHead(chunk: Buffer): Buffer {
    const taken = chunk.copy(this.#head, this.#headFilled, 0, headBytes - this.#headFilled);
    this.#headFilled += taken;
    if (this.#headFilled === headBytes) {
      this.#headFilled = 0;
      this.#open = openFrame(this.#head);
    }
    return chunk.subarray(taken);
  }

  #readData(open: Open & { kind: 'data' }, chunk: Buffer, frames: Frame[]): Buffer {
    const bytes = chunk.subarray(0, open.left);
    open.left -= bytes.length;
    frames.push({ kind: 'data', streamId: open.streamId, bytes, isLast: open.isLast && open.left === 0 });
    if (open.left === 0) this.#open = undefined;
    return chunk.subarray(bytes.length);
  }

  #readControl(open: Open & { kind: 'control' }, chunk: Buffer, frames: Frame[]): Buffer {
    const taken = chunk.copy(open.payload, open.filled);
    open.filled += taken;
    if (open.filled === open.payload.length) {
      this.#open = undefined;
      const frame = controlFrame(open.type, open.flags, open.payload);
      if (frame !== undefined) frames.push(frame);
    }
    return chunk.subarray(taken);
  }
}

/** A frame without payload is complete with its head. */
const isComplete = (open: Open | undefined): boolean => open !== undefined && (open.kind === 'data' ? open.left === 0 : open.payload.length === 0);

function openFrame(head: Buffer): Open {
  const first = head.readUInt32BE(0);
  const flags = head.readUInt8(4);
  const length = head.readUIntBE(5, 3);
  if (first < 0x8000_0000) return { kind: 'data', streamId: needStream(first), isLast: (flags & flagFin) !== 0, left: length };
  const spoken = (first >>> 16) & 0x7fff;
  if (spoken !== version) throw new Fault('invalid', `SPDY: a frame of version ${spoken}, not ${version}`);
  if (length > maxControlBytes) throw new Fault('invalid', `SPDY: a control frame of ${length} bytes; at most ${maxControlBytes} are read`);
  return { kind: 'control', type: first & 0xffff, flags, payload: Buffer.alloc(length), filled: 0 };
}

/** Undefined for a type that nobody knows: it is to be ignored (draft 3.1, section 2.2.1). */
function controlFrame(frameType: number, flags: number, payload: Buffer): Frame | undefined {
  const isLast = (flags & flagFin) !== 0;
  switch (frameType) {
    case type.synStream:
      // Behind the stream id come the associated stream, the priority and a slot.
      return { kind: 'syn-stream', streamId: needStream(id31(payload, 0)), isLast, headerBlock: behind(payload, 10) };
    case type.synReply:
      return { kind: 'syn-reply', streamId: needStream(id31(payload, 0)), isLast, headerBlock: behind(payload, 4) };
    case type.headers:
      return { kind: 'headers', streamId: needStream(id31(payload, 0)), isLast, headerBlock: behind(payload, 4) };
    case type.rstStream:
      return { kind: 'rst-stream', streamId: needStream(id31(payload, 0)), status: uint32(payload, 4) };
    case type.settings:
      return { kind: 'settings', initialWindowBytes: initialWindow(payload) };
    case type.ping:
      return { kind: 'ping', id: uint32(payload, 0) };
    case type.goAway:
      return { kind: 'goaway', lastStreamId: id31(payload, 0) };
    case type.windowUpdate:
      return { kind: 'window-update', streamId: id31(payload, 0), bytes: id31(payload, 4) };
    default:
      return undefined;
  }
}

function initialWindow(payload: Buffer): number | undefined {
  const count = uint32(payload, 0);
  if (count * 8 > payload.length - 4) throw new Fault('invalid', `SPDY: SETTINGS announces ${count} entries in ${payload.length} bytes`);
  for (let at = 4; at < 4 + count * 8; at += 8) if ((uint32(payload, at) & 0xff_ffff) === settingInitialWindow) return id31(payload, at + 4);
  return undefined;
}

function uint32(payload: Buffer, at: number): number {
  if (payload.length < at + 4) throw new Fault('invalid', 'SPDY: a control frame is too short');
  return payload.readUInt32BE(at);
}

const id31 = (payload: Buffer, at: number): number => uint32(payload, at) & 0x7fff_ffff;

function behind(payload: Buffer, at: number): Buffer {
  if (payload.length < at) throw new Fault('invalid', 'SPDY: a control frame is too short');
  return payload.subarray(at);
}

function needStream(streamId: number): number {
  if (streamId === 0) throw new Fault('invalid', 'SPDY: stream 0 does not exist');
  return streamId;
}

function control(frameType: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt16BE(0x8000 | version, 0);
  head.writeUInt16BE(frameType, 2);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(payload.length, 5, 3);
  return Buffer.concat([head, payload]);
}

function words(...values: number[]): Buffer {
  const payload = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => payload.writeUInt32BE(value, i * 4));
  return payload;
}

function dataHead(streamId: number, length: number, flags: number): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(streamId, 0);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(length, 5, 3);
  return head;
}

/** `bytes` in as many frames as it takes; the buffers are views of `bytes`. */
export function dataFrames(streamId: number, bytes: Buffer): Buffer[] {
  const buffers: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += maxDataBytes) {
    const part = bytes.subarray(at, at + maxDataBytes);
    buffers.push(dataHead(streamId, part.length, 0), part);
  }
  return buffers;
}

/** Nothing more will come from this side. */
export const finFrame = (streamId: number): Buffer => dataHead(streamId, 0, flagFin);

export const synReplyFrame = (streamId: number, headerBlock: Buffer): Buffer => control(type.synReply, 0, Buffer.concat([words(streamId), headerBlock]));

export const rstStreamFrame = (streamId: number, status: number): Buffer => control(type.rstStream, 0, words(streamId, status));

export const pingFrame = (id: number): Buffer => control(type.ping, 0, words(id));

export const goAwayFrame = (lastStreamId: number, status: number): Buffer => control(type.goAway, 0, words(lastStreamId, status));

export const windowUpdateFrame = (streamId: number, bytes: number): Buffer => control(type.windowUpdate, 0, words(streamId, bytes));
