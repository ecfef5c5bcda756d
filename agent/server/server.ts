/** The HTTPS server on port 10250: nobody gets an answer before the API server has said that they may. */
import { readFile } from 'node:fs/promises';
import { constants } from 'node:crypto';
import * as http from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as https from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import type { TlsOptions } from 'node:tls';
import { withTimeout } from '#host/ctx.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import type { FaultKind } from '#host/fault.ts';
import { watchDirectory } from '#host/watch-dir.ts';
import type { KubeClient } from '../kube/client.ts';
import { Authenticator } from './authn.ts';
import { Authorizer, subresourcesOf, verbOf } from './authz.ts';
import { healthAnswer } from './health.ts';
import { answerText, findRoute } from './routes.ts';
import type { ServerBackend } from './routes.ts';
import type { Checked, Refusal } from './checked.ts';
import { type Arrival, proxyUpgrade } from './upgrade-proxy.ts';
import { readKeyPair, selfSignedKeyPair } from './serving-certificate.ts';
import type { SelfSignedOptions } from './serving-certificate.ts';

export interface ServerOptions {
  readonly address: string;
  /** 0: any free one. */
  readonly port: number;
  readonly nodeName: string;
  readonly client: KubeClient;
  readonly backend: ServerBackend;
  /** Authorities of client certificates; without it only tokens are accepted. */
  readonly clientCAFile: string | undefined;
  /** Both or none; none: a certificate of our own making. */
  readonly tlsCertFile: string | undefined;
  readonly tlsPrivateKeyFile: string | undefined;
  readonly selfSigned: SelfSignedOptions;
}

export interface RunningServer {
  readonly port: number;
  close(): Promise<void>;
}

const idleMs = 90_000;
/** Go's: a command of an exec is in the path. */
const maxHeaderBytes = 1024 * 1024;
const decideWithinMs = 20_000;
/** As Go's servers do: a client that vanished without a word must not keep a followed log, or an exec, for ever. */
const keepAliveMs = 15_000;
/** For a client that was refused to read why and hang up. Source: apimachinery pkg/util/proxy/upgradeaware.go. */
const lingerMs = 10_000;
const renewalCheckMs = 86_400_000;
/** A runtime with too many streams that nobody has fetched forgets them after a minute. Source: k8s.io/cri-streaming request_cache.go. */
const retryAfterSeconds = 60;
/** Sessions are not resumed: a certificate whose authority was removed must not slip through. */
const noTickets = constants.SSL_OP_NO_TICKET;

/** Throws Fault('invalid') that names the file at fault. The files are read again when they change. */
export async function startServer(ctx: Ctx, options: ServerOptions): Promise<RunningServer> {
  const server = https.createServer({ ...(await tlsOptions(options)), requestCert: options.clientCAFile !== undefined, rejectUnauthorized: false, allowHalfOpen: true, maxHeaderSize: maxHeaderBytes, keepAlive: true, keepAliveInitialDelay: keepAliveMs });
  if (options.clientCAFile === undefined) ctx.log.warn('no clientCAFile: the API server cannot ask this node for logs, only holders of tokens can');
  server.keepAliveTimeout = idleMs;
  const serving = new AbortController();
  const own = { ...ctx, signal: AbortSignal.any([ctx.signal, serving.signal]) };
  const gate = new Gate(own, options);
  server.on('request', (request, response) => void gate.serve(request, response));
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, early: Buffer) => void gate.upgrade({ request, socket, early }));
  server.on('tlsClientError', (err) => ctx.log.debug({ err }, 'TLS handshake failed'));
  const reload = (): void => {
    tlsOptions(options).then(
      (fresh) => server.setSecureContext(fresh),
      (err: unknown) => ctx.log.warn({ err }, 'certificates not read again, the present ones stay'),
    );
  };
  const files = [options.clientCAFile, options.tlsCertFile, options.tlsPrivateKeyFile].filter((file) => file !== undefined);
  for (const dir of new Set(files.map((file) => dirname(file)))) watchDirectory(own, dir, reload);
  const daily = setInterval(reload, renewalCheckMs).unref(); // our own certificate is made anew before it ends
  own.signal.addEventListener('abort', () => clearInterval(daily), { once: true });
  await listen(server, options.port, options.address);
  const { port } = server.address() as AddressInfo;
  ctx.log.info({ address: options.address, port }, 'serving the node API');
  return {
    port,
    close: () => {
      serving.abort();
      return close(server);
    },
  };
}

/** /healthz alone, plain and only meant for this machine; no questions asked. */
export async function startHealthServer(options: { address: string; port: number; syncLoopProblem: () => string | undefined }): Promise<RunningServer> {
  const server = http.createServer((request, response) => {
    const url = targetOf(request);
    const isHealth = url !== undefined && (url.pathname === '/healthz' || url.pathname.startsWith('/healthz/'));
    const answer = isHealth ? healthAnswer(url.pathname, url.searchParams.has('verbose'), options.syncLoopProblem) : undefined;
    answerText(response, answer?.status ?? 404, answer?.text ?? '404 page not found\n');
  });
  await listen(server, options.port, options.address);
  return { port: (server.address() as AddressInfo).port, close: () => close(server) };
}

async function listen(server: http.Server, port: number, address: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', (cause) => reject(new Fault('unavailable', `listen on ${address}:${port}: ${explain(cause)}`, cause)));
  server.listen(port, address, resolve);
  await promise;
}

async function close(server: http.Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  await promise;
}

async function tlsOptions(options: ServerOptions): Promise<TlsOptions> {
  const { tlsCertFile, tlsPrivateKeyFile, clientCAFile } = options;
  const pair = tlsCertFile !== undefined && tlsPrivateKeyFile !== undefined ? await readKeyPair(tlsCertFile, tlsPrivateKeyFile) : await selfSignedKeyPair(options.selfSigned);
  const base = { ...pair, minVersion: 'TLSv1.2', secureOptions: noTickets } as const;
  if (clientCAFile === undefined) return base;
  const ca = await readFile(clientCAFile, 'utf8').catch((cause: unknown) => {
    throw new Fault('invalid', `${clientCAFile}: cannot be read: ${explain(cause)}`, cause);
  });
  if (!ca.includes('-----BEGIN CERTIFICATE-----')) throw new Fault('invalid', `${clientCAFile}: holds no PEM certificate`);
  return { ...base, ca };
}

/** Authentication, then authorisation, then the route: in this order for every request. */
class Gate {
  readonly #ctx: Ctx;
  readonly #options: ServerOptions;
  readonly #authenticator: Authenticator;
  readonly #authorizer: Authorizer;

  constructor(ctx: Ctx, options: ServerOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#authenticator = new Authenticator(options.client);
    this.#authorizer = new Authorizer(options.client, options.nodeName);
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const ctx: Ctx = { ...this.#ctx, signal: AbortSignal.any([this.#ctx.signal, gone.signal]) };
    try {
      const url = targetOf(request);
      const refusal = url === undefined ? { status: 400, text: 'Bad Request' } : await this.#refusal(ctx, request, url.pathname);
      if (refusal !== undefined || url === undefined) return answerText(response, refusal?.status ?? 400, refusal?.text ?? '');
      const match = findRoute(request.method ?? '', url.pathname);
      if (match === 'not-found') return answerText(response, 404, '404 page not found\n');
      if ('allow' in match) {
        response.setHeader('allow', match.allow.join(', '));
        return answerText(response, 405, '405: Method Not Allowed');
      }
      const { route, parameters } = match;
      await route.handle({ ctx, backend: this.#options.backend, response, path: url.pathname, query: url.searchParams, parameters });
    } catch (err) {
      if (ctx.signal.aborted) response.destroy();
      else this.#fail(response, request, err);
    }
  }

  /** Streams (exec, attach, port-forward) come as upgrades: the same gate, then straight on to the runtime. */
  async upgrade(arrival: Arrival): Promise<void> {
    const { request, socket } = arrival;
    const gone = new AbortController();
    const destroy = (): void => void socket.destroy();
    socket.on('error', destroy);
    socket.once('close', () => gone.abort());
    const ctx: Ctx = { ...this.#ctx, signal: AbortSignal.any([this.#ctx.signal, gone.signal]) };
    ctx.signal.addEventListener('abort', destroy, { once: true });
    try {
      const found = await this.#streamUrl(ctx, request);
      if ('value' in found) await proxyUpgrade(ctx, arrival, new URL(found.value));
      else refuseUpgrade(socket, found);
    } catch (err) {
      if (ctx.signal.aborted) return;
      this.#ctx.log.error({ err, path: request.url?.split('?')[0] }, 'upgrade failed');
      refuseUpgrade(socket, { status: 500, text: explain(err) });
    } finally {
      // Whatever the client still sends must not cut off what it was told.
      socket.resume();
      setTimeout(destroy, lingerMs).unref();
    }
  }

  async #streamUrl(ctx: Ctx, request: IncomingMessage): Promise<Checked<string>> {
    const url = targetOf(request);
    if (url === undefined) return { status: 400, text: 'Bad Request' };
    const refusal = await this.#refusal(ctx, request, url.pathname);
    if (refusal !== undefined) return refusal;
    const match = findRoute(request.method ?? '', url.pathname);
    if (match === 'not-found') return { status: 404, text: '404 page not found\n' };
    if ('allow' in match) return { status: 405, text: '405: Method Not Allowed' };
    if (match.route.stream === undefined) return { status: 400, text: 'Bad Request' };
    const isWebsocket = request.headers.upgrade?.toLowerCase() === 'websocket';
    return match.route.stream({ ctx, backend: this.#options.backend, query: url.searchParams, parameters: match.parameters, isWebsocket });
  }

  /** Undefined: go ahead. */
  async #refusal(ctx: Ctx, request: IncomingMessage, path: string): Promise<Refusal | undefined> {
    const limited = withTimeout(ctx, decideWithinMs);
    let user;
    try {
      user = await this.#authenticator.who(limited, request);
    } catch (err) {
      ctx.log.warn({ err }, 'request not authenticated');
    }
    if (user === undefined) return { status: 401, text: 'Unauthorized' };
    const verb = verbOf(request.method ?? '');
    const subresources = subresourcesOf(path);
    for (const subresource of subresources) {
      try {
        if (await this.#authorizer.may(limited, user, verb, subresource)) return undefined;
      } catch (err) {
        ctx.log.warn({ err, user: user.name, verb, subresource }, 'request not authorised');
        return { status: 500, text: `Authorization error (user=${user.name}, verb=${verb}, resource=nodes, subresource=${subresource})` };
      }
    }
    return { status: 403, text: `Forbidden (user=${user.name}, verb=${verb}, resource=nodes, subresource(s)=[${subresources.join(' ')}])\n` };
  }

  #fail(response: ServerResponse, request: IncomingMessage, err: unknown): void {
    const kind = isFault(err) ? err.kind : 'internal';
    if (kind === 'internal') this.#ctx.log.error({ err, path: request.url?.split('?')[0] }, 'request failed');
    if (response.headersSent) response.destroy();
    else answerText(response, statusOf[kind], explain(err));
  }
}

/** Node has let go of the connection by now: the answer is written by hand. */
function refuseUpgrade(socket: Duplex, { status, text }: Refusal): void {
  const retry = status === 429 ? `retry-after: ${retryAfterSeconds}\r\n` : '';
  const head = `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(text)}\r\n${retry}connection: close\r\n\r\n`;
  socket.end(head + text);
}

/** The address without `.` and `..`: authorisation and route must look at the same path. Undefined when it is none. */
function targetOf(request: IncomingMessage): URL | undefined {
  const target = request.url ?? '';
  return target.startsWith('/') && URL.canParse(`https://node${target}`) ? new URL(`https://node${target}`) : undefined;
}

/** `precondition` is 400 here: that is how the kubelet says that a container has no log yet. */
const statusOf = {
  'not-found': 404, 'already-exists': 409, invalid: 400, precondition: 400, unavailable: 503, exhausted: 429, timeout: 504, canceled: 503,
  unimplemented: 501, unauthorized: 401, forbidden: 403, internal: 500,
} as const satisfies Record<FaultKind, number>;
