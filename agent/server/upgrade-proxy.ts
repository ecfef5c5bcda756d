/**
 * Hands an upgraded connection (SPDY, websocket) on to the runtime's streaming server: the request goes there as it came, the answer comes back as
 * it is, and after a 101 bytes flow both ways until both directions have ended. Only after a 101: whoever was refused gets no tunnel.
 */
import { request as ask, type IncomingMessage, STATUS_CODES } from 'node:http';
import { connect, isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { connect as connectTls, type ConnectionOptions, getCACertificates } from 'node:tls';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';

export interface Arrival {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What the client sent behind its request. */
  readonly early: Buffer;
}

/** The runtime needs no proof of who asks, and an upgrade has no body. */
const notForwarded = new Set(['authorization', 'content-length', 'transfer-encoding']);
/** They belong to one connection; the refusal ends it. */
const notReturned = new Set(['connection', 'keep-alive', 'transfer-encoding']);

/**
 * Returns when both sides are closed, or the refusal was written. Throws Fault 'unavailable' while nothing was answered yet: the runtime's server cannot be reached.
 * When `ctx` ends, so does the upstream connection.
 */
export async function proxyUpgrade(ctx: Ctx, { request, socket, early }: Arrival, target: URL): Promise<void> {
  const answer = Promise.withResolvers<{ head: IncomingMessage; upstream?: Duplex; first?: Buffer }>();
  const outgoing = ask({
    method: request.method ?? 'GET',
    path: `${target.pathname}${target.search}`,
    headers: [...withoutHeaders(request.rawHeaders, notForwarded), ...(request.method === 'POST' ? ['Content-Length', '0'] : [])],
    createConnection: () => connectTo(target),
    signal: ctx.signal,
  });
  outgoing.on('upgrade', (head, upstream, first) => answer.resolve({ head, upstream, first }));
  outgoing.on('response', (head) => answer.resolve({ head }));
  outgoing.on('error', (cause) => answer.reject(new Fault('unavailable', `streaming server of the runtime at ${target.origin}`, cause)));
  outgoing.end();
  const { head, upstream, first } = await answer.promise;
  if (upstream === undefined) return passRefusal(head, socket).finally(() => outgoing.destroy());
  socket.write(headText(head, head.rawHeaders));
  socket.unshift(early);
  upstream.unshift(first ?? Buffer.alloc(0));
  // Each of the two pipelines listens for the end of both in several ways.
  for (const each of [socket, upstream]) each.setMaxListeners(maxListeners);
  // How a stream breaks is the business of its two ends; each sees it.
  await Promise.allSettled([pipeline(socket, upstream), pipeline(upstream, socket)]);
  upstream.destroy();
  socket.destroy();
}

const maxListeners = 30;

/** Half-open: an end is passed on and does not end the other direction. */
function connectTo({ protocol, hostname, port }: URL): Duplex {
  const host = hostname.replace(/^\[|\]$/g, '');
  if (protocol !== 'https:') return connect({ host, port: Number(port || 80), allowHalfOpen: true, noDelay: true });
  const options: ConnectionOptions & { allowHalfOpen: boolean } = {
    host, port: Number(port || 443), allowHalfOpen: true, ca: [...getCACertificates('system'), ...getCACertificates('extra')], ...(isIP(host) === 0 && { servername: host }),
  };
  return connectTls(options);
}

async function passRefusal(head: IncomingMessage, socket: Duplex): Promise<void> {
  socket.write(headText(head, [...withoutHeaders(head.rawHeaders, notReturned), 'Connection', 'close']));
  await pipeline(head, socket);
}

/** `raw` is a flat list: name, value, name, value. */
const withoutHeaders = (raw: readonly string[], unwanted: ReadonlySet<string>): string[] =>
  raw.filter((_, index) => !unwanted.has((raw[index - (index % 2)] ?? '').toLowerCase()));

function headText({ statusCode = 502 }: IncomingMessage, headers: readonly string[]): string {
  const lines = headers.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${headers[index + 1] ?? ''}\r\n`] : []));
  return `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode] ?? ''}\r\n${lines.join('')}\r\n`;
}
