/**
 * The streaming server of the CRI: Exec, Attach and PortForward answer with a URL of it, on which the client streams.
 *
 *   URL handed out ──▶ client connects, token spent ──▶ upgraded ──▶ session ──▶ closed
 *        └─ not within a minute: 404      └─ no protocol in common: 403
 */
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AttachRequest, ExecRequest, PortForwardRequest } from '#cri-api';
import { monotonicMs } from '#host/clock.ts';
import { type Ctx, withFields } from '#host/ctx.ts';
import { Fault, isFault } from '#host/fault.ts';
import { EPOLLRDHUP, watchFd } from '#host/reactor.ts';
import type { CriConfig } from '../config.ts';
import { type Choice, negotiate } from './negotiate.ts';
import { servePorts } from './ports-session.ts';
import { serveProcess } from './process-session.ts';
import { attachRequest, execRequest, portsRequest, type StreamRequest } from './request.ts';
import type { StreamingTargets } from './targets.ts';
import { Tokens } from './tokens.ts';
import { Transport } from './transport.ts';

type StreamingConfig = CriConfig['streaming'];

export interface Streaming {
  /** The URL for the client. Fault invalid for a request that cannot be, 'exhausted' when too many wait for their client. */
  exec(request: ExecRequest): string;
  attach(request: AttachRequest): string;
  portForward(request: PortForwardRequest): string;
  /** For sessions from now on. */
  setIdleTimeout(idleMs: number): void;
  /** Ends all sessions, and with them what they run. May be called twice. */
  stop(): Promise<void>;
}

/** A client that died without a word is noticed by then, and 9 probes. */
const keepAliveMs = 30_000;
/** For the sessions' processes to be killed. */
const stopMs = 2000;

/** Fault precondition when the address or the certificate cannot be used. */
export async function startStreaming(ctx: Ctx, config: StreamingConfig, targets: StreamingTargets): Promise<Streaming> {
  const ended = new AbortController();
  const own: Ctx = { ...withFields(ctx, { part: 'streaming' }), signal: AbortSignal.any([ctx.signal, ended.signal]) };
  const tokens = new Tokens<StreamRequest>(monotonicMs);
  const sessions = new Set<Promise<void>>();
  let idleMs = config.idleTimeoutMs;
  const server = await httpServer(config);
  server.on('request', (request, response) => {
    const isKnown = redeem(tokens, request) !== undefined;
    response.writeHead(isKnown ? 400 : 404, { 'Content-Type': 'text/plain', Connection: 'close' }).end(isKnown ? 'this is a stream: ask for an upgrade to SPDY/3.1 or websocket\n' : 'not found\n');
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket, early: Buffer) => {
    const session = open(own, { request, socket, early, idleMs }, tokens, targets).finally(() => sessions.delete(session));
    sessions.add(session);
  });
  await listening(server, config);
  own.signal.addEventListener('abort', () => {
    server.close();
    server.closeAllConnections();
  }, { once: true });
  const base = baseUrl(config, server.address() as AddressInfo);
  const url = (request: StreamRequest): string => `${base}/${request.kind}/${tokens.issue(request)}`;
  own.log.debug({ url: base }, 'streaming server ready');
  return {
    exec: (request) => url(execRequest(request)),
    attach: (request) => url(attachRequest(request)),
    portForward: (request) => url(portsRequest(request)),
    setIdleTimeout: (ms) => void (idleMs = ms),
    stop: async () => {
      ended.abort(new Fault('canceled', 'the server stops'));
      await Promise.race([Promise.allSettled(sessions), sleep(stopMs)]);
    },
  };
}

async function httpServer(config: StreamingConfig): Promise<Server> {
  if (config.tlsCert === undefined || config.tlsKey === undefined) return createServer();
  const [cert, key] = await Promise.all([config.tlsCert, config.tlsKey].map((file) => readFile(file))).catch((error: unknown) => {
    throw new Fault('precondition', 'cri.streaming: the certificate cannot be read', error);
  });
  try {
    return createTlsServer({ ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }), ALPNProtocols: ['http/1.1'] });
  } catch (error) {
    throw new Fault('precondition', `cri.streaming: ${config.tlsCert} and ${config.tlsKey} are no certificate and its key`, error);
  }
}

async function listening(server: Server, { address, port }: StreamingConfig): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new Fault('precondition', `cri.streaming: cannot listen on ${address} port ${port}`, error)));
    server.listen(port, address, resolve);
  });
}

function baseUrl(config: StreamingConfig, { address, family, port }: AddressInfo): string {
  const host = family === 'IPv6' ? `[${address}]` : address;
  return `${config.tlsCert === undefined ? 'http' : 'https'}://${host}:${port}`;
}

/** The request that `/<kind>/<token>` stands for; its token is spent. */
function redeem(tokens: Tokens<StreamRequest>, { url }: IncomingMessage): StreamRequest | undefined {
  const [, kind, token] = /^\/(exec|attach|portforward)\/([\w-]+)(?:\?.*)?$/.exec(url ?? '') ?? [];
  const found = token === undefined ? undefined : tokens.redeem(token);
  return found?.kind === kind ? found : undefined;
}

interface Arrival {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  /** What the client sent behind its request. */
  readonly early: Buffer;
  readonly idleMs: number;
}

/** Never rejects. */
async function open(ctx: Ctx, { request, socket, early, idleMs }: Arrival, tokens: Tokens<StreamRequest>, targets: StreamingTargets): Promise<void> {
  socket.on('error', () => {});
  const stream = redeem(tokens, request);
  if (stream === undefined) return respond(socket, 404, {}, 'not found\n');
  const negotiated = negotiate(request.method, request.headers, stream.kind === 'portforward' ? 'ports' : 'process');
  if (negotiated.kind === 'refused') return respond(socket, negotiated.status, negotiated.headers, `${negotiated.message}\n`);
  respond(socket, 101, negotiated.headers);
  if (early.length > 0) socket.unshift(early);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, keepAliveMs);
  const own = withFields(ctx, { stream: stream.kind, ...(stream.kind === 'portforward' ? { sandbox: stream.sandboxId } : { container: stream.containerId }) });
  socket.setTimeout(idleMs, () => {
    own.log.info('a stream was idle for too long');
    socket.destroy();
  });
  try {
    await serve(own, { transport: new Transport(socket, (gone) => watchHangUp(socket, gone)), choice: negotiated.choice, stream }, targets);
    own.log.debug('the stream has ended');
  } catch (error) {
    own.log[isFault(error) ? 'info' : 'error']({ err: error }, 'a stream broke');
  } finally {
    socket.destroy();
  }
}

async function serve(ctx: Ctx, session: { transport: Transport; choice: Choice; stream: StreamRequest }, targets: StreamingTargets): Promise<void> {
  const { transport, choice, stream } = session;
  switch (stream.kind) {
    case 'exec': {
      const { containerId, command, tty } = stream;
      return await serveProcess(ctx, { transport, choice, request: stream }, (own, io) => targets.exec(own, { containerId, command, tty }, io));
    }
    case 'attach':
      return await serveProcess(ctx, { transport, choice, request: stream }, async (own, io) => {
        await targets.attach(own, { containerId: stream.containerId, tty: stream.tty }, io);
        return undefined;
      });
    case 'portforward':
      return await servePorts(ctx, { transport, choice, request: stream }, (own, port, connection) =>
        targets.portForward(own, { sandboxId: stream.sandboxId, port }, connection));
  }
}

/** Node stops watching a socket that it does not read, and would notice the end of a client only behind all that it sent. */
function watchHangUp(socket: Socket, gone: () => void): () => void {
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd?: number } | null })._handle ?? {};
  return fd === undefined || fd < 0 ? () => {} : watchFd(fd, gone, EPOLLRDHUP);
}

/** Writes an answer by hand: after an upgrade Node's server has let go of the socket. */
function respond(socket: Socket, status: number, headers: Readonly<Record<string, string>>, body?: string): void {
  const all = { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'text/plain', 'Content-Length': String(Buffer.byteLength(body)), Connection: 'close' }) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${body ?? ''}`;
  if (body === undefined) socket.write(text);
  else socket.end(text, () => socket.destroy());
}
