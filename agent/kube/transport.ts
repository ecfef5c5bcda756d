/** One HTTP/2 connection to the API server for everything (HTTP/1.1 where the server or a proxy knows no better), replaced when credentials change or it goes silent. */
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as https from 'node:https';
import type { Readable } from 'node:stream';
import * as tls from 'node:tls';
import { Fault } from '#host/fault.ts';
import type { ApiAccess, Credentials } from './kubeconfig.ts';

export interface HttpRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable;
}

/** Source: client-go's transport: a ping after 30 s of silence, given up after 15 s. */
const silentAfterMs = 30_000;
const pongWithinMs = 15_000;
const lookEveryMs = 10_000;
/** Servers allow 100 to 250; watches beyond this many get a second connection, so that no request waits for a watch to end. */
const streamsPerSession = 80;
const connectWithinMs = 30_000;

interface Session {
  readonly h2: http2.ClientHttp2Session;
  readonly fingerprint: string;
  streams: number;
  retired: boolean;
}

export class Transport {
  readonly #access: ApiAccess;
  #sessions: Session[] = [];
  #connecting: Promise<Session | 'http/1.1'> | undefined;
  #http1: { readonly agent: http.Agent; readonly fingerprint: string } | undefined;
  #closed = false;

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** Resolves with the head of the answer. Rejects with the error of the socket, or with the signal's reason. */
  async open(signal: AbortSignal, request: HttpRequest): Promise<HttpAnswer> {
    signal.throwIfAborted();
    if (this.#closed) throw new Fault('unavailable', 'the API client was closed');
    const credentials = await this.#access.credentials();
    signal.throwIfAborted();
    const withAuth = { ...request, headers: { ...request.headers, ...credentials.headers } };
    if (this.#access.server.protocol === 'http:' || credentials.agent !== undefined) return this.#openHttp1(signal, withAuth, credentials);
    for (let attempt = 1; ; attempt++) {
      const session = await raceAbort(signal, this.#session(credentials));
      if (session === 'http/1.1') return this.#openHttp1(signal, withAuth, credentials);
      signal.throwIfAborted(); // an abort before the listener is attached would be missed
      try {
        return await openStream(session, signal, withAuth, this.#access.server);
      } catch (error) {
        signal.throwIfAborted();
        if (attempt > 1 || !isSafeToRepeat(error, request.method)) throw error;
        retire(session);
      }
    }
  }

  close(): void {
    this.#closed = true;
    for (const session of this.#sessions) session.h2.destroy();
    this.#sessions = [];
    this.#http1?.agent.destroy();
  }

  async #session(credentials: Credentials): Promise<Session | 'http/1.1'> {
    for (const session of this.#sessions) if (session.fingerprint !== credentials.fingerprint) retire(session);
    if (this.#http1 !== undefined && this.#http1.fingerprint === credentials.fingerprint) return 'http/1.1';
    const free = this.#sessions.find((session) => !session.retired && session.streams < streamsPerSession);
    if (free !== undefined) return free;
    this.#connecting ??= this.#connect(credentials).finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #connect(credentials: Credentials): Promise<Session | 'http/1.1'> {
    const socket = await connectTls(this.#access.server, credentials);
    if (socket.alpnProtocol !== 'h2') {
      socket.destroy();
      this.#useHttp1(credentials);
      return 'http/1.1';
    }
    const h2 = http2.connect(this.#access.server, { createConnection: () => socket, settings: { enablePush: false, initialWindowSize: 1 << 20 } });
    const session: Session = { h2, fingerprint: credentials.fingerprint, streams: 0, retired: false };
    h2.once('connect', () => h2.setLocalWindowSize(1 << 22));
    h2.on('goaway', () => (session.retired = true));
    h2.on('error', () => (session.retired = true)); // the streams report it
    h2.once('close', () => {
      session.retired = true;
      this.#sessions = this.#sessions.filter((other) => other !== session);
    });
    watchSilence(h2, socket);
    this.#sessions.push(session);
    return session;
  }

  #useHttp1(credentials: Credentials): http.Agent {
    if (this.#http1?.fingerprint === credentials.fingerprint) return this.#http1.agent;
    const options = { keepAlive: true, keepAliveMsecs: silentAfterMs };
    const agent = this.#access.server.protocol === 'http:' ? new http.Agent(options) : new https.Agent({ ...options, ...credentials.tls });
    this.#http1 = { agent, fingerprint: credentials.fingerprint };
    return agent;
  }

  async #openHttp1(signal: AbortSignal, request: HttpRequest, credentials: Credentials): Promise<HttpAnswer> {
    const { server } = this.#access;
    const agent = credentials.agent ?? this.#useHttp1(credentials);
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
    const module = server.protocol === 'http:' ? http : https;
    const length = request.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(request.body)) };
    const options = { method: request.method, headers: { ...request.headers, ...length }, agent, signal, ...credentials.tls };
    const outgoing = module.request(new URL(server.pathname.replace(/\/$/, '') + request.path, server), options);
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming }));
    outgoing.end(request.body);
    return promise;
  }
}

function connectTls(server: URL, credentials: Credentials): Promise<tls.TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<tls.TLSSocket>();
  const socket = tls.connect({
    host: server.hostname.replace(/^\[|\]$/g, ''),
    port: Number(server.port || 443),
    ALPNProtocols: ['h2', 'http/1.1'],
    ...credentials.tls,
  });
  socket.setTimeout(connectWithinMs, () => socket.destroy(new Fault('timeout', `connect to ${server.host}: no answer within ${connectWithinMs / 1000} s`)));
  socket.setKeepAlive(true, silentAfterMs);
  socket.setNoDelay(true);
  socket.once('error', reject);
  socket.once('secureConnect', () => {
    socket.setTimeout(0);
    socket.off('error', reject);
    resolve(socket);
  });
  return promise;
}

/** Notices a peer that vanished without a word: without this, a watch would wait for ever. */
function watchSilence(h2: http2.ClientHttp2Session, socket: tls.TLSSocket): void {
  let bytesSeen = socket.bytesRead;
  let silentMs = 0;
  const timer = setInterval(() => {
    silentMs = socket.bytesRead === bytesSeen ? silentMs + lookEveryMs : 0;
    bytesSeen = socket.bytesRead;
    if (silentMs < silentAfterMs || h2.destroyed) return;
    silentMs = 0;
    const giveUp = setTimeout(() => h2.destroy(new Fault('unavailable', 'the API server does not answer pings')), pongWithinMs);
    const sent = h2.ping(() => {
      clearTimeout(giveUp);
    });
    if (!sent) clearTimeout(giveUp);
  }, lookEveryMs);
  timer.unref();
  h2.once('close', () => clearInterval(timer));
}

/** No new streams; those under way (watches) run on until the server ends them. */
function retire(session: Session): void {
  if (session.retired) return;
  session.retired = true;
  session.h2.close();
}

async function openStream(session: Session, signal: AbortSignal, request: HttpRequest, server: URL): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const headers = { ...request.headers, ':method': request.method, ':path': server.pathname.replace(/\/$/, '') + request.path };
  const stream = session.h2.request(headers, { endStream: request.body === undefined });
  session.streams++;
  const abort = (): void => {
    stream.destroy(signal.reason instanceof Error ? signal.reason : new Fault('canceled', 'canceled'));
  };
  signal.addEventListener('abort', abort, { once: true });
  stream.once('close', () => {
    session.streams--;
    signal.removeEventListener('abort', abort);
    reject(new Fault('unavailable', 'the connection was closed before the answer')); // no effect after an answer
  });
  stream.on('error', reject); // stays: an error without listener would end the process
  stream.once('response', (head) => resolve({ status: Number(head[':status']), headers: head, body: stream }));
  if (request.body !== undefined) stream.end(request.body);
  return promise;
}

/** A server that goes away refuses streams it has not looked at; a reading request may be repeated after any failure of the connection. */
function isSafeToRepeat(error: unknown, method: string): boolean {
  if (method === 'GET') return true;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ERR_HTTP2_INVALID_SESSION' || code === 'ERR_HTTP2_GOAWAY_SESSION') return true;
  return code === 'ERR_HTTP2_STREAM_ERROR' && error instanceof Error && error.message.includes('REFUSED_STREAM');
}

function raceAbort<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const abort = (): void => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  return promise;
}
