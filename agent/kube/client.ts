/** Requests to the API server: raw JSON in and out, one shared connection, refusals as ApiError. */
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { timedOut, withTimeout } from '#host/ctx.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import { apiError } from './api-error.ts';
import type { ApiAccess } from './kubeconfig.ts';
import { Transport } from './transport.ts';
import type { KubeList } from './types.ts';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Content types of PATCH. `apply` needs `fieldManager` in the query. */
export type PatchKind = 'strategic' | 'merge' | 'json' | 'apply';

export interface DeleteOptions {
  /** 0 = remove at once (what a node does with a pod that has ended). */
  readonly gracePeriodSeconds?: number;
  /** Delete only this very object, not one of the same name made since; otherwise ApiError `Conflict`. */
  readonly uid?: string;
}

export interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly object: T;
}

/**
 * The API server. Paths come from resource-path.ts. Every call throws ApiError for a refusal and Fault
 * ('unavailable', 'timeout', 'canceled', 'unauthorized') when there was no answer; none of them retries.
 */
export interface KubeClient {
  get<T>(ctx: Ctx, path: string, query?: Query): Promise<T>;
  list<T>(ctx: Ctx, path: string, query?: Query): Promise<KubeList<T>>;
  create<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T>;
  replace<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T>;
  patch<T>(ctx: Ctx, path: string, kind: PatchKind, body: unknown, query?: Query): Promise<T>;
  delete(ctx: Ctx, path: string, options?: DeleteOptions): Promise<void>;
  /** Ends when the server closes the stream; throws ApiError for an ERROR event and Fault('unavailable') for a broken connection. Bookmarks come only if the query asks for them. */
  watch<T>(ctx: Ctx, path: string, query?: Query): AsyncIterable<WatchEvent<T>>;
  /** Closes the connection; calls under way fail. */
  close(): void;
}

const patchTypes = {
  strategic: 'application/strategic-merge-patch+json',
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
} as const satisfies Record<PatchKind, string>;

const requestTimeoutMs = 30_000;

export interface KubeClientOptions {
  readonly userAgent?: string;
  /** Of every call but watches; a caller's own shorter deadline holds as well. */
  readonly requestTimeoutMs?: number;
}

export function createKubeClient(access: ApiAccess, options: KubeClientOptions = {}): KubeClient {
  return new RestClient(access, options);
}

class RestClient implements KubeClient {
  readonly #access: ApiAccess;
  readonly #transport: Transport;
  readonly #userAgent: string;
  readonly #timeoutMs: number;

  constructor(access: ApiAccess, options: KubeClientOptions) {
    this.#access = access;
    this.#transport = new Transport(access);
    this.#userAgent = options.userAgent ?? 'nodelet';
    this.#timeoutMs = options.requestTimeoutMs ?? requestTimeoutMs;
  }

  get<T>(ctx: Ctx, path: string, query?: Query): Promise<T> {
    return this.#call(ctx, 'GET', path, query);
  }

  list<T>(ctx: Ctx, path: string, query?: Query): Promise<KubeList<T>> {
    return this.#call(ctx, 'GET', path, query);
  }

  create<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T> {
    return this.#call(ctx, 'POST', path, query, body);
  }

  replace<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T> {
    return this.#call(ctx, 'PUT', path, query, body);
  }

  patch<T>(ctx: Ctx, path: string, kind: PatchKind, body: unknown, query?: Query): Promise<T> {
    return this.#call(ctx, 'PATCH', path, query, body, patchTypes[kind]);
  }

  async delete(ctx: Ctx, path: string, options: DeleteOptions = {}): Promise<void> {
    const { gracePeriodSeconds, uid } = options;
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', gracePeriodSeconds, ...(uid !== undefined && { preconditions: { uid } }) };
    await this.#call(ctx, 'DELETE', path, undefined, body);
  }

  async *watch<T>(ctx: Ctx, path: string, query: Query = {}): AsyncGenerator<WatchEvent<T>> {
    const what = `watch ${path}`;
    const body = await this.#open(ctx, 'GET', path, { ...query, watch: true }, what);
    try {
      for await (const line of lines(body)) yield watchEvent<T>(line, what);
    } catch (error) {
      throw this.#explained(ctx, error, what);
    } finally {
      body.destroy();
    }
  }

  close(): void {
    this.#transport.close();
  }

  async #call<T>(ctx: Ctx, method: string, path: string, query?: Query, body?: unknown, contentType = 'application/json'): Promise<T> {
    const limited = withTimeout(ctx, this.#timeoutMs);
    const what = `${method} ${path}`;
    const answer = await this.#open(limited, method, path, query, what, body, contentType);
    try {
      return JSON.parse(await textOf(answer)) as T;
    } catch (error) {
      throw this.#explained(limited, error, what);
    }
  }

  /** The body of a successful answer. */
  async #open(ctx: Ctx, method: string, path: string, query: Query | undefined, what: string, body?: unknown, contentType?: string): Promise<Readable> {
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#userAgent };
    if (body !== undefined && contentType !== undefined) headers['content-type'] = contentType;
    try {
      const request = { method, path: path + queryText(query), headers, body: body === undefined ? undefined : JSON.stringify(body) };
      const answer = await this.#transport.open(ctx.signal, request);
      if (answer.status >= 200 && answer.status < 300) return answer.body;
      if (answer.status === 401) this.#access.forget();
      throw apiError(answer.status, await textOf(answer.body), what);
    } catch (error) {
      throw this.#explained(ctx, error, what);
    }
  }

  #explained(ctx: Ctx, error: unknown, what: string): Fault {
    if (isFault(error) && error.kind !== 'canceled') return error;
    if (timedOut(ctx)) return new Fault('timeout', `${what}: the API server did not answer in time`, error);
    if (ctx.signal.aborted) return new Fault('canceled', `${what}: canceled`, error);
    if (error instanceof SyntaxError) return new Fault('internal', `${what}: the answer is not JSON: ${error.message}`, error);
    return new Fault('unavailable', `${what}: ${this.#access.server.origin}: ${connectionProblem(error)}`, error);
  }
}

/** `connect ECONNREFUSED 127.0.0.1:6443` and the like; Node hides it in an AggregateError when a name has several addresses. */
function connectionProblem(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(explain).join(', ');
  return explain(error);
}

function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) parameters.set(name, String(value));
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}

function watchEvent<T>(line: string, what: string): WatchEvent<T> {
  const event = JSON.parse(line) as { type: string; object: T };
  if (event.type === 'ERROR') throw apiError(500, JSON.stringify(event.object), what);
  return event as WatchEvent<T>;
}

async function textOf(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk as Buffer);
  assertWhole(body);
  return Buffer.concat(chunks).toString('utf8');
}

/** Node ends an HTTP/2 stream without an error when the connection breaks under it. */
function assertWhole(body: Readable): void {
  const { aborted, rstCode } = body as Readable & { aborted?: boolean; rstCode?: number };
  if (aborted === true || (rstCode !== undefined && rstCode !== 0)) throw new Fault('unavailable', 'the connection broke off in the middle of the answer');
}

async function* lines(body: Readable): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of body) {
    const text = decoder.write(chunk as Buffer);
    if (!text.includes('\n')) {
      rest += text;
      continue;
    }
    const complete = (rest + text).split('\n');
    rest = complete.pop() ?? '';
    for (const line of complete) if (line.trim() !== '') yield line;
  }
  assertWhole(body);
}
