/**
 * ttrpc's messages as bytes: length, stream, type and flags, then a protobuf message. Only unary calls. Pure.
 * Source: github.com/containerd/ttrpc v1.2.9, PROTOCOL.md, channel.go.
 */
import { Fault } from '#host/fault.ts';
import type { FrameFormat } from './frames.ts';
import { Request, Response } from './gen/ttrpc.ts';

export const messageHeaderBytes = 10;
export const maxMessageBytes = 4 * 1024 * 1024;

const requestType = 1;
const responseType = 2;
/** What a caller may send of a unary request. */
const streamingFlags = 0x02;

/** google.rpc.Code. */
export const rpcCode = { ok: 0, unknown: 2, invalidArgument: 3, resourceExhausted: 8, unimplemented: 12 } as const;

interface MessageHeader {
  readonly stream: number;
  readonly type: number;
  readonly flags: number;
}

export const messageFormat: FrameFormat<MessageHeader> = {
  headerBytes: messageHeaderBytes,
  maxBodyBytes: maxMessageBytes,
  parseHeader: (bytes) => ({ header: { stream: bytes.readUInt32BE(4), type: bytes.readUInt8(8), flags: bytes.readUInt8(9) }, bodyBytes: bytes.readUInt32BE(0) }),
};

function encode(stream: number, type: number, body: Uint8Array): Buffer {
  if (body.length > maxMessageBytes) throw new Fault('exhausted', `a message of ${body.length} bytes; at most ${maxMessageBytes} can be sent`);
  const bytes = Buffer.allocUnsafe(messageHeaderBytes + body.length);
  bytes.writeUInt32BE(body.length, 0);
  bytes.writeUInt32BE(stream, 4);
  bytes.writeUInt8(type, 8);
  bytes.writeUInt8(0, 9);
  bytes.set(body, messageHeaderBytes);
  return bytes;
}

/** Fault 'exhausted' when it is longer than the protocol allows. */
export const encodeRequest = (stream: number, request: Request): Buffer => encode(stream, requestType, Request.encode(request).finish());
/** As `encodeRequest`. */
export const encodeResponse = (stream: number, response: Response): Buffer => encode(stream, responseType, Response.encode(response).finish());

export type Message =
  | { readonly kind: 'request'; readonly stream: number; readonly request: Request }
  | { readonly kind: 'response'; readonly stream: number; readonly response: Response }
  /** To be answered with this, where the stream is the caller's. */
  | { readonly kind: 'bad-request'; readonly stream: number; readonly code: number; readonly message: string }
  /** Of a later version of the protocol. */
  | { readonly kind: 'unknown' };

/** Fault 'invalid' for a response that cannot be read: the call that waits for it would wait for ever. */
export function decodeMessage({ stream, type, flags }: MessageHeader, body: Buffer): Message {
  if (type === responseType) {
    try {
      return { kind: 'response', stream, response: Response.decode(body) };
    } catch (cause) {
      throw new Fault('invalid', 'a ttrpc response that cannot be read', cause);
    }
  }
  if (type !== requestType) return { kind: 'unknown' };
  const bad = (code: number, message: string): Message => ({ kind: 'bad-request', stream, code, message });
  if (stream % 2 !== 1) return bad(rpcCode.invalidArgument, 'the stream of a request must be odd');
  if ((flags & streamingFlags) !== 0) return bad(rpcCode.unimplemented, 'there are no streaming calls');
  try {
    return { kind: 'request', stream, request: Request.decode(body) };
  } catch {
    return bad(rpcCode.invalidArgument, 'the request cannot be read');
  }
}
