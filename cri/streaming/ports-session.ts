/**
 * Port forwarding over any transport: two streams per connection, one with its bytes and one for what went wrong.
 *
 *   SPDY: the client opens both, with the headers streamtype (data, error), port and requestid; any number of connections
 *   WebSocket, old: channels 2n and 2n+1 for the nth port of the request; one connection each, both begin with the port in two bytes
 *
 *   one stream there ──▶ both there ──▶ forwarded ──▶ both ended
 *          └─ the other not within 30 s: both closed
 *
 * Source: k8s.io/cri-streaming, portforward/httpstream.go and websocket.go.
 */
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault } from '#host/fault.ts';
import { type Channel, endChannel } from './channel.ts';
import type { Choice } from './negotiate.ts';
import { creationTimeoutMs } from './process-session.ts';
import type { PortsRequest } from './request.ts';
import type { Headers } from './spdy/header-block.ts';
import { SpdySession } from './spdy/session.ts';
import { Transport } from './transport.ts';
import { WebSocketChannels } from './websocket/channels.ts';
import { WebSocketConnection } from './websocket/connection.ts';
import { Tunnel } from './websocket/tunnel.ts';

/** One connection, until both directions have ended. */
export type Forward = (ctx: Ctx, port: number, connection: Channel) => Promise<void>;

interface Pair {
  readonly port: number;
  data?: Channel;
  error?: Channel;
  readonly timer: NodeJS.Timeout;
}

/** Returns when the client is gone and no connection is left. Fault invalid when it does not keep to the protocol. */
export async function servePorts(ctx: Ctx, session: { transport: Transport; choice: Choice; request: PortsRequest }, forward: Forward): Promise<void> {
  const { transport, choice, request } = session;
  switch (choice.way) {
    case 'spdy':
      return await overSpdy(ctx, transport, forward);
    case 'tunnel': {
      const tunnel = new Tunnel(new WebSocketConnection(transport));
      const [carried, served] = await Promise.allSettled([tunnel.serve(), overSpdy(ctx, new Transport(tunnel), forward)]);
      for (const each of [carried, served]) if (each.status === 'rejected') throw each.reason;
      return;
    }
    case 'websocket':
      return await overWebSocket(ctx, { transport, isBase64: choice.isBase64, ports: request.ports }, forward);
  }
}

async function overSpdy(ctx: Ctx, transport: Transport, forward: Forward): Promise<void> {
  const gone = new AbortController();
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, gone.signal]) };
  const pairs = new Map<string, Pair>();
  const running = new Set<Promise<void>>();
  const session = new SpdySession(transport, (channel, headers) => {
    const named = streamName(channel.id, headers);
    if (named === undefined) return false;
    const pair = pairs.get(named.requestId) ?? newPair(own, pairs, named);
    if (pair[named.type] !== undefined) return false;
    pair[named.type] = channel;
    const forget = (): void => {
      clearTimeout(pair.timer);
      if (pairs.get(named.requestId) === pair) pairs.delete(named.requestId);
    };
    // Half a pair whose stream was reset must not be kept until the time is up.
    channel.once('close', forget);
    if (pair.data === undefined || pair.error === undefined) return true;
    forget();
    const work = forwardOne(own, { port: pair.port, data: pair.data, error: pair.error }, forward).finally(() => running.delete(work));
    running.add(work);
    return true;
  });
  own.signal.addEventListener('abort', () => session.hangUp(), { once: true });
  try {
    await session.serve();
  } finally {
    gone.abort(new Fault('canceled', 'the client is gone'));
    for (const pair of pairs.values()) clearTimeout(pair.timer);
    await Promise.allSettled(running);
  }
}

function newPair(ctx: Ctx, pairs: Map<string, Pair>, { requestId, port }: { requestId: string; port: number }): Pair {
  const timer = setTimeout(() => {
    pairs.delete(requestId);
    ctx.log.warn({ port }, 'the client opened only one of the two streams of a connection');
    pair.error?.end('timed out waiting for the data stream');
    pair.data?.destroy();
  }, creationTimeoutMs);
  const pair: Pair = { port, timer };
  pairs.set(requestId, pair);
  return pair;
}

/** Undefined for headers that say nothing we could use. Clients without request ids open the two streams of a connection one behind the other, the error stream first. */
function streamName(streamId: number, headers: Headers): { type: 'data' | 'error'; port: number; requestId: string } | undefined {
  const type = headers.get('streamtype');
  const port = headers.get('port') ?? '';
  if (type !== 'data' && type !== 'error') return undefined;
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 0xffff) return undefined;
  return { type, port: Number(port), requestId: headers.get('requestid') ?? `stream ${type === 'error' ? streamId : streamId - 2}` };
}

/** Never rejects: what went wrong is told on the error stream. */
async function forwardOne(ctx: Ctx, { port, data, error }: { port: number; data: Channel; error: Channel }, forward: Forward): Promise<void> {
  const broken = new AbortController();
  data.once('close', () => broken.abort(new Fault('canceled', 'the client closed the connection')));
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, broken.signal]) };
  error.resume();
  try {
    await forward(own, port, data);
  } catch (failure) {
    if (!own.signal.aborted) {
      ctx.log.info({ err: failure, port }, 'a port cannot be forwarded');
      error.write(`error forwarding port ${port}: ${explain(failure)}`);
    }
  }
  await Promise.all([endChannel(error), endChannel(data)]);
}

async function overWebSocket(ctx: Ctx, { transport, isBase64, ports }: { transport: Transport; isBase64: boolean; ports: readonly number[] }, forward: Forward): Promise<void> {
  const gone = new AbortController();
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, gone.signal]) };
  const channels = new WebSocketChannels(new WebSocketConnection(transport), { isBase64, canHalfClose: false });
  own.signal.addEventListener('abort', () => channels.hangUp(), { once: true });
  const running = ports.map((port, i) => {
    const [data, error] = [channels.add(2 * i), channels.add(2 * i + 1)];
    const portBytes = Buffer.from([port & 0xff, port >> 8]);
    data.write(portBytes);
    error.write(portBytes);
    return forwardOne(own, { port, data, error }, forward);
  });
  const work = Promise.all(running).then(() => channels.end(own));
  try {
    await channels.serve();
  } finally {
    gone.abort(new Fault('canceled', 'the client is gone'));
    await work;
  }
}
