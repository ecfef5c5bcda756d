/** For tests: an API server in memory, over real TLS with HTTP/2 or 1.1, with list, watch, compaction and the requests it has seen. */
import * as http2 from 'node:http2';
import * as https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { makeCertificate } from './certificate.ts';
import type { ApiAccess } from './kubeconfig.ts';
import type { KubeObject } from './types.ts';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly contentType: string | undefined;
  readonly body: unknown;
}

export interface Scripted {
  readonly status: number;
  readonly body: unknown;
}

type Stored = KubeObject & Record<string, unknown>;
interface Change {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: Stored;
}
interface Watcher {
  readonly collection: string;
  readonly query: URLSearchParams;
  readonly stream: http2.Http2ServerResponse;
}

/** Collections are paths such as /api/v1/namespaces/a/pods; /api/v1/pods shows those of all namespaces. */
export class FakeApiServer {
  readonly requests: SeenRequest[] = [];
  /** Looked at first; undefined lets the request through to the store. */
  script: (request: SeenRequest) => Scripted | undefined = () => undefined;
  readonly #objects = new Map<string, Stored>();
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<Watcher>();
  readonly #sockets = new Set<Socket>();
  readonly #server: http2.Http2SecureServer | https.Server;
  readonly #certificatePem: string;
  #version = 100;
  #oldest = 0;
  #uid = 0;
  /** Connections accepted so far. */
  connections = 0;

  static async start(options: { http1?: boolean } = {}): Promise<FakeApiServer> {
    const hour = 3_600_000;
    const made = await makeCertificate({
      subject: { commonName: 'fake' }, use: 'server', hosts: ['127.0.0.1'], notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + hour),
    });
    const fake = new FakeApiServer(made.certificatePem, made.keyPem, options.http1 === true);
    await fake.listen(0);
    return fake;
  }

  private constructor(certificatePem: string, keyPem: string, http1: boolean) {
    this.#certificatePem = certificatePem;
    const tls = { cert: certificatePem, key: keyPem };
    this.#server = http1 ? https.createServer(tls) : http2.createSecureServer(tls);
    this.#server.on('request', (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void this.#serve(request, response));
    this.#server.on('secureConnection', (socket: Socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on('error', () => undefined); // dropped on purpose
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  access(): ApiAccess {
    const tls = { ca: this.#certificatePem };
    const credentials = { tls, headers: { authorization: 'Bearer test' }, fingerprint: 'fake', agent: undefined };
    return { server: new URL(`https://127.0.0.1:${this.port}`), credentials: () => Promise.resolve(credentials), forget: () => undefined };
  }

  async listen(port: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.listen(port, '127.0.0.1', resolve);
    await promise;
  }

  /** Every connection breaks at once, as when the machine behind it dies. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#watchers.clear();
  }

  /** Every watch ends as it does at its time-out. */
  endWatches(): void {
    for (const { stream } of this.#watchers) stream.end();
    this.#watchers.clear();
  }

  get watches(): number {
    return this.#watchers.size;
  }

  /** Forgets the history: a watch from any version before now is Gone. */
  compact(): void {
    this.#version++;
    this.#oldest = this.#version;
    this.#changes.length = 0;
  }

  bookmark(): void {
    this.#version++;
    for (const { stream } of this.#watchers) stream.write(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: String(this.#version) } } })}\n`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.dropConnections();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    return promise;
  }

  get(path: string): Stored | undefined {
    return this.#objects.get(path);
  }

  put(collection: string, object: object): Stored {
    const given = object as Stored;
    const path = `${collection}/${given.metadata?.name ?? ''}`;
    const before = this.#objects.get(path);
    const namespace = /\/namespaces\/([^/]+)\//.exec(`${collection}/`)?.[1];
    const uid = given.metadata?.uid ?? before?.metadata?.uid ?? `uid-${++this.#uid}`;
    const metadata = { ...given.metadata, ...(namespace !== undefined && { namespace }), uid, resourceVersion: String(++this.#version) };
    const stored: Stored = { ...given, metadata };
    this.#objects.set(path, stored);
    this.#publish(collection, { version: this.#version, type: before === undefined ? 'ADDED' : 'MODIFIED', object: stored });
    return stored;
  }

  remove(path: string): boolean {
    const object = this.#objects.get(path);
    if (object === undefined) return false;
    this.#objects.delete(path);
    const gone: Stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#publish(path.slice(0, path.lastIndexOf('/')), { version: this.#version, type: 'DELETED', object: gone });
    return true;
  }

  #publish(collection: string, change: Change): void {
    this.#changes.push(change);
    for (const watcher of this.#watchers) if (isIn(collection, watcher.collection) && matches(change.object, watcher.query)) watcher.stream.write(line(change));
  }

  async #serve(request: http2.Http2ServerRequest, response: http2.Http2ServerResponse): Promise<void> {
    const url = new URL(request.url, 'https://fake');
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const seen: SeenRequest = {
      method: request.method, path: url.pathname, query: url.searchParams, contentType: request.headers['content-type'], body: text === '' ? undefined : JSON.parse(text),
    };
    this.requests.push(seen);
    const { status, body } = this.script(seen) ?? this.#answer(seen, response);
    if (status === 0) return; // a watch: stays open
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify(body)}\n`);
  }

  #answer(seen: SeenRequest, response: http2.Http2ServerResponse): Scripted {
    if (seen.query.get('watch') === 'true') return this.#watch(seen, response);
    const path = seen.path.replace(/\/status$/, '');
    const object = this.#objects.get(path);
    const collection = path.slice(0, path.lastIndexOf('/'));
    switch (seen.method) {
      case 'POST': {
        const created = seen.body as Stored;
        if (this.#objects.has(`${path}/${created.metadata?.name ?? ''}`)) return failure(409, 'AlreadyExists');
        return { status: 201, body: this.put(path, created) };
      }
      case 'PUT': {
        const sent = seen.body as Stored;
        const version = sent.metadata?.resourceVersion;
        if (object === undefined) return failure(404, 'NotFound');
        if (version !== undefined && version !== object.metadata?.resourceVersion) return failure(409, 'Conflict');
        return { status: 200, body: this.put(collection, sent) };
      }
      case 'PATCH':
        return object === undefined ? failure(404, 'NotFound') : { status: 200, body: this.put(collection, merged(object, seen.body) as Stored) };
      case 'DELETE':
        return this.remove(path) ? { status: 200, body: {} } : failure(404, 'NotFound');
      default:
        if (object !== undefined) return { status: 200, body: object };
        return path.endsWith('s') && !this.#looksLikeName(path) ? this.#list(seen) : failure(404, 'NotFound');
    }
  }

  #looksLikeName(path: string): boolean {
    const parent = path.slice(0, path.lastIndexOf('/'));
    return /\/(pods|nodes|configmaps|secrets|events|leases)$/.test(parent);
  }

  #list(seen: SeenRequest): Scripted {
    const all = [...this.#objects].filter(([path, object]) => isIn(path.slice(0, path.lastIndexOf('/')), seen.path) && matches(object, seen.query)).map(([, object]) => object);
    const start = Number(seen.query.get('continue') ?? 0);
    const limit = Number(seen.query.get('limit') ?? all.length);
    const more = start + limit < all.length;
    return { status: 200, body: { kind: 'List', metadata: { resourceVersion: String(this.#version), ...(more && { continue: String(start + limit) }) }, items: all.slice(start, start + limit) } };
  }

  #watch(seen: SeenRequest, response: http2.Http2ServerResponse): Scripted {
    const from = Number(seen.query.get('resourceVersion') ?? 0);
    if (from < this.#oldest) return failure(410, 'Expired');
    response.writeHead(200, { 'content-type': 'application/json' });
    (response as unknown as { flushHeaders?: () => void }).flushHeaders?.();
    for (const change of this.#changes) {
      const path = `${seen.path}`;
      const namespace = change.object.metadata?.namespace;
      const kindOfPath = path.slice(path.lastIndexOf('/') + 1);
      const collection = namespace === undefined ? path : `/api/v1/namespaces/${namespace}/${kindOfPath}`;
      if (change.version > from && isIn(collection, seen.path) && matches(change.object, seen.query)) response.write(line(change));
    }
    const watcher: Watcher = { collection: seen.path, query: seen.query, stream: response };
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
    return { status: 0, body: undefined };
  }
}

const line = ({ type, object }: Change): string => `${JSON.stringify({ type, object })}\n`;

/** An error answer of the API server. */
export const failure = (status: number, reason: string, message = reason): Scripted => ({ status, body: { kind: 'Status', status: 'Failure', code: status, reason, message } });

const isIn = (collection: string, asked: string): boolean => collection === asked || collection.replace(/\/namespaces\/[^/]+/, '') === asked;

function matches(object: Stored, query: URLSearchParams): boolean {
  const selector = query.get('fieldSelector');
  if (selector === null) return true;
  const [field = '', wanted] = selector.split('=');
  const value = field.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], object);
  return value === wanted;
}

function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as Record<string, unknown> | undefined) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}
