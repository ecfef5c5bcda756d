/** How the test registry sends content: whole, in part, slowly, and in the ways in which it must not be sent. */
import { createReadStream, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

export type Misbehaviour =
  /** Half of the body, then silence on an open connection. */
  | 'stall'
  /** The headers, then silence. */
  | 'silent'
  /** Half of the body, then the connection ends. */
  | 'truncate'
  /** Half of the body, then the connection is reset. */
  | 'reset'
  /** 64 KiB a second. */
  | 'drip'
  /** The right length, but other bytes. */
  | 'wrong-digest'
  /** More bytes than there are, and a length that says so. */
  | 'too-long'
  /** Range is ignored: always the whole. */
  | 'no-ranges'
  /** Says that it sends the range that was asked for, and sends the beginning. */
  | 'wrong-range'
  /** 307 to a signed address on another host name. */
  | 'redirect'
  /** 307 to the same address. */
  | 'redirect-loop'
  /** JSON without end. */
  | 'huge-manifest'
  /** 429 with Retry-After: 1. */
  | 'too-many-requests'
  /** 503. */
  | 'unavailable';

export interface Bytes { readonly file: string; readonly digest: string; readonly mediaType: string }
export interface Manner { readonly behave: Misbehaviour | undefined; readonly bytesPerSecond: number | undefined }
interface Part { readonly start: number; readonly end: number }

const acceptsRange = /^bytes=(\d+)-(\d*)$/;
const chunkBytes = 256 * 1024;
const dripBytesPerSecond = 64 * 1024;

export function sendBlob(request: IncomingMessage, response: ServerResponse, found: Bytes, { behave, bytesPerSecond }: Manner): void {
  const { size } = statSync(found.file);
  const range = behave === 'no-ranges' ? null : acceptsRange.exec(request.headers.range ?? '');
  const start = range === null ? 0 : Number(range[1]);
  const end = Math.min(size - 1, range === null || range[2] === '' ? size - 1 : Number(range[2]));
  if (range !== null && start > end) { sendError(response, 416, 'RANGE_INVALID', request.headers.range ?? ''); return; }
  const extra = behave === 'too-long' ? 100_000 : 0;
  response.writeHead(range === null ? 200 : 206, {
    'content-type': found.mediaType, 'docker-content-digest': found.digest, 'content-length': end - start + 1 + extra,
    ...(behave === 'no-ranges' ? {} : { 'accept-ranges': 'bytes' }),
    ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${size}` }),
  });
  if (request.method === 'HEAD' || size === 0) { response.end(); return; }
  if (behave === 'silent') { response.flushHeaders(); return; }
  if (behave === 'wrong-digest') { response.end(inverted(found.file, { start, end })); return; }
  if (behave === 'too-long') { response.end(Buffer.concat([readFileSync(found.file).subarray(start, end + 1), Buffer.alloc(extra)])); return; }
  const part = behave === 'wrong-range' ? { start: 0, end: end - start } : { start, end };
  const limit = behave === 'drip' ? dripBytesPerSecond : bytesPerSecond;
  if (limit !== undefined) { sendSlowly(response, found.file, part, limit).catch(() => { response.destroy(); }); return; }
  sendPart(response, found.file, part, behave);
}

function sendPart(response: ServerResponse, file: string, { start, end }: Part, behave: Misbehaviour | undefined): void {
  const breaks = behave === 'stall' || behave === 'truncate' || behave === 'reset';
  const stream = createReadStream(file, { start, end: breaks ? start + Math.floor((end - start) / 2) : end, highWaterMark: chunkBytes });
  stream.on('error', () => { response.destroy(); });
  response.on('close', () => { stream.destroy(); });
  stream.pipe(response, { end: !breaks });
  // A moment later: what was written should arrive.
  if (behave === 'truncate') stream.on('end', () => { setTimeout(() => { response.destroy(); }, 50); });
  if (behave === 'reset') stream.on('end', () => { setTimeout(() => { response.socket?.resetAndDestroy(); }, 50); });
}

/** When a connection may send again, in ms of performance.now(): several answers on one connection share what it gets. */
const freeAt = new WeakMap<Socket, number>();

async function sendSlowly(response: ServerResponse, file: string, { start, end }: Part, bytesPerSecond: number): Promise<void> {
  const { socket } = response;
  const highWaterMark = Math.min(chunkBytes, Math.max(1024, Math.floor(bytesPerSecond / 50)));
  await pipeline(createReadStream(file, { start, end, highWaterMark }), async function* slowly(pieces: AsyncIterable<Buffer>) {
    for await (const piece of pieces) {
      const nowMs = performance.now();
      const untilMs = Math.max(nowMs, (socket === null ? undefined : freeAt.get(socket)) ?? 0) + (piece.length / bytesPerSecond) * 1000;
      if (socket !== null) freeAt.set(socket, untilMs);
      await sleep(untilMs - nowMs);
      yield piece;
    }
  }, response);
}

/** The same length with every byte inverted. */
const inverted = (file: string, { start, end }: Part): Buffer => readFileSync(file).subarray(start, end + 1).map((byte) => byte ^ 0xff) as Buffer;

export function sendHugeManifest(response: ServerResponse): void {
  const spaces = Buffer.alloc(chunkBytes, ' ');
  const more = (): void => { while (!response.destroyed && response.write(spaces)); };
  response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }).write('{');
  response.on('drain', more);
  more();
}

export function sendJson(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers }).end(text);
}

export function sendError(response: ServerResponse, status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}): void {
  sendJson(response, status, { errors: [{ code, message }] }, headers);
}
