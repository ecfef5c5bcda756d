/**
 * The distribution API (distribution-spec 1.1): what a reference means, manifests, blobs. A session is one pull from one repository: it knows the
 * endpoints in their order, asks the next one when one fails, and asks again when a failure is temporary.
 */
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuthConfig } from '#cri-api';
import { timedOut, withTimeout, type Ctx } from '#host/ctx.ts';
import { explain, Fault } from '#host/fault.ts';
import { digestOf, isDigest, verifyDigest, type Digest } from './digest.ts';
import { manifestMediaTypes, maxManifestBytes } from './manifest.ts';
import { formatReference, repositoryOf, type Reference } from './reference.ts';
import { credentialsOf, RegistryAuth } from './registry-auth.ts';
import { registryEndpoints, type Endpoint } from './registry-hosts.ts';
import { answerError, readLimited, RegistryError, RegistryHttp } from './registry-http.ts';

export interface RegistryOptions {
  readonly certsDir: string;
  /** No byte of a blob for this long is a failure. Default five minutes. */
  readonly progressTimeoutMs?: number;
  readonly userAgent?: string;
  /** The first wait before a request is repeated; doubles each time. Default 500. */
  readonly retryDelayMs?: number;
}

export interface FoundManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Undefined when it is the one that the caller knew already. */
  readonly data: Uint8Array | undefined;
}
export interface BlobStream {
  readonly stream: IncomingMessage;
  /** Where the stream begins: what was asked for, or 0 when the registry cannot do ranges. */
  readonly offset: number;
  readonly endpoint: Endpoint;
}

const rounds = 4;
const maxDelayMs = 30_000;
/** For a manifest as a whole. */
const manifestTimeoutMs = 60_000;

export class Registry {
  readonly progressTimeoutMs: number;
  readonly retryDelayMs: number;
  readonly http: RegistryHttp;
  readonly auth: RegistryAuth;
  readonly #certsDir: string;

  constructor(options: RegistryOptions) {
    this.#certsDir = options.certsDir;
    this.progressTimeoutMs = options.progressTimeoutMs ?? 300_000;
    this.retryDelayMs = options.retryDelayMs ?? 500;
    this.http = new RegistryHttp({ userAgent: options.userAgent ?? 'nodelet' });
    this.auth = new RegistryAuth(this.http);
  }

  /** Reads the configuration of the registry's hosts, anew each time. Throws Fault invalid for a broken one. */
  async session(request: { readonly reference: Reference; readonly auth: AuthConfig | undefined }): Promise<RegistrySession> {
    const endpoints = await registryEndpoints(this.#certsDir, request.reference.domain);
    return new RegistrySession(this, request, endpoints);
  }

  close(): void {
    this.http.close();
  }
}

export class RegistrySession {
  readonly reference: Reference;
  readonly #registry: Registry;
  readonly #auth: AuthConfig | undefined;
  #endpoints: readonly Endpoint[];

  constructor(registry: Registry, request: { readonly reference: Reference; readonly auth: AuthConfig | undefined }, endpoints: readonly Endpoint[]) {
    this.#registry = registry;
    this.reference = request.reference;
    this.#auth = request.auth;
    this.#endpoints = endpoints;
  }

  get progressTimeoutMs(): number {
    return this.#registry.progressTimeoutMs;
  }
  get retryDelayMs(): number {
    return this.#registry.retryDelayMs;
  }

  /**
   * What the reference means now. With `known` (digests we have for this tag) the registry is first asked only for the digest, which costs nothing
   * against its limits; the manifest comes only when it is another one.
   */
  async resolve(ctx: Ctx, known: readonly Digest[]): Promise<FoundManifest> {
    const { digest, tag = '' } = this.reference;
    if (digest !== undefined) return this.manifest(ctx, digest);
    return this.#anyEndpoint(ctx, 'resolve', async (endpoint) => {
      if (known.length > 0) {
        const found = await this.#head(ctx, endpoint, tag);
        if (found !== undefined && known.includes(found)) return { digest: found, mediaType: '', data: undefined };
      }
      return this.#getManifest(ctx, endpoint, { name: tag, wanted: undefined });
    });
  }

  /** A manifest by its digest, verified. */
  async manifest(ctx: Ctx, digest: Digest): Promise<FoundManifest & { readonly data: Uint8Array }> {
    return this.#anyEndpoint(ctx, 'pull', (endpoint) => this.#getManifest(ctx, endpoint, { name: digest, wanted: digest }));
  }

  /** A blob from `offset` on, not verified. The caller reads the stream to its end or destroys it. */
  async blob(ctx: Ctx, digest: Digest, offset: number): Promise<BlobStream> {
    return this.#anyEndpoint(ctx, 'pull', async (endpoint) => {
      const headers = offset === 0 ? {} : { range: `bytes=${offset}-` };
      const response = await this.#send(ctx, endpoint, { method: 'GET', path: `blobs/${digest}`, headers });
      if (response.statusCode === 200) return { stream: response, offset: 0, endpoint };
      if (response.statusCode === 206 && new RegExp(`^bytes ${offset}-`).test(response.headers['content-range'] ?? '')) {
        return { stream: response, offset, endpoint };
      }
      if (offset > 0 && (response.statusCode === 206 || response.statusCode === 416)) {
        response.destroy();
        const whole = await this.#send(ctx, endpoint, { method: 'GET', path: `blobs/${digest}`, headers: {} });
        if (whole.statusCode === 200) return { stream: whole, offset: 0, endpoint };
        throw await answerError(whole, `blob ${digest}`);
      }
      throw await answerError(response, `blob ${digest}`);
    });
  }

  /** After it sent wrong content: not asked again in this session. False when it was the last. */
  exclude(endpoint: Endpoint): boolean {
    const others = this.#endpoints.filter((other) => other !== endpoint);
    if (!others.some(({ canPull }) => canPull)) return false;
    this.#endpoints = others;
    return true;
  }

  async #head(ctx: Ctx, endpoint: Endpoint, name: string): Promise<Digest | undefined> {
    const response = await this.#send(ctx, endpoint, { method: 'HEAD', path: `manifests/${name}`, headers: { accept: manifestMediaTypes.join(', ') } });
    response.resume();
    const digest = response.headers['docker-content-digest'];
    return response.statusCode === 200 && typeof digest === 'string' && isDigest(digest) ? digest : undefined;
  }

  async #getManifest(
    outer: Ctx,
    endpoint: Endpoint,
    request: { readonly name: string; readonly wanted: Digest | undefined },
  ): Promise<FoundManifest & { readonly data: Uint8Array }> {
    const ctx = withTimeout(outer, manifestTimeoutMs);
    const response = await this.#send(ctx, endpoint, { method: 'GET', path: `manifests/${request.name}`, headers: { accept: manifestMediaTypes.join(', ') } });
    if (response.statusCode !== 200) throw await answerError(response, `manifest ${request.name}`);
    const data = await this.#body(ctx, outer, response);
    const said = response.headers['docker-content-digest'];
    const wanted = request.wanted ?? (typeof said === 'string' && isDigest(said) ? said : digestOf(data));
    verifyDigest(data, wanted, `manifest ${request.name}`);
    return { digest: wanted, mediaType: response.headers['content-type'] ?? '', data };
  }

  async #body(ctx: Ctx, outer: Ctx, response: IncomingMessage): Promise<Uint8Array> {
    try {
      return await readLimited(response, maxManifestBytes);
    } catch (cause) {
      outer.signal.throwIfAborted();
      if (cause instanceof Fault) throw cause;
      const why = timedOut(ctx) ? `the answer did not end within ${manifestTimeoutMs / 1000} s` : 'the connection broke';
      throw new RegistryError('unavailable', why, { isTemporary: true, cause });
    }
  }

  async #send(
    ctx: Ctx,
    endpoint: Endpoint,
    request: { readonly method: 'GET' | 'HEAD'; readonly path: string; readonly headers: Readonly<Record<string, string>> },
  ): Promise<IncomingMessage> {
    const { path: repository, domain } = this.reference;
    const url = new URL(`${endpoint.scheme}://${endpoint.host}${endpoint.path}/${repository}/${request.path}`);
    if (endpoint.isMirror) url.searchParams.set('ns', domain);
    const forRegistry = credentialsOf(this.#auth, domain);
    const access = { endpoint, repository, credentials: forRegistry.kind === 'anonymous' ? credentialsOf(this.#auth, endpoint.host) : forRegistry };
    let authorization = this.#registry.auth.remembered(access);
    for (let attempt = 0; ; attempt++) {
      const headers = { ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
      const response = await this.#registry.http.send(ctx, endpoint, { method: request.method, url, headers });
      if (response.statusCode !== 401 || attempt === 2) return response;
      const challenge = response.headers['www-authenticate'] ?? '';
      const next = await this.#registry.auth.answer(ctx, access, { challenge, sent: authorization });
      if (next === undefined) return response;
      response.resume();
      authorization = next;
    }
  }

  /** In order, several rounds while failures are temporary. The error names every endpoint and what it said. */
  async #anyEndpoint<T>(ctx: Ctx, capability: 'pull' | 'resolve', ask: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const candidates = this.#endpoints.filter(({ canPull, canResolve }) => (capability === 'resolve' ? canResolve : canPull));
    if (candidates.length === 0) throw new Fault('invalid', `no host of ${this.reference.domain} may ${capability} (see its hosts.toml)`);
    for (let round = 1; ; round++) {
      const failures: { readonly endpoint: Endpoint; readonly error: Fault }[] = [];
      for (const endpoint of candidates) {
        try {
          return await ask(endpoint);
        } catch (error) {
          ctx.signal.throwIfAborted();
          if (!(error instanceof Fault)) throw error;
          failures.push({ endpoint, error });
        }
      }
      const temporary = failures.filter(({ error }) => error instanceof RegistryError && error.isTemporary);
      if (temporary.length === 0 || round === rounds) throw this.#allFailed(failures);
      await sleep(delayMs(this.#registry.retryDelayMs, round, temporary), undefined, { signal: ctx.signal });
    }
  }

  #allFailed(failures: readonly { readonly endpoint: Endpoint; readonly error: Fault }[]): Fault {
    const [last] = failures.slice(-1);
    const told = failures.map(({ endpoint, error }) => {
      const where = `${endpoint.scheme}://${endpoint.host}`;
      const text = explain(error);
      return text.startsWith(where) ? text : `${where}: ${text}`;
    });
    const hint = last?.error.kind === 'unauthorized' || last?.error.kind === 'forbidden' ? ' (the repository does not exist, or needs other credentials)' : '';
    const details = last?.error instanceof RegistryError ? last.error : undefined;
    return new RegistryError(last?.error.kind ?? 'unavailable', `${told.join('; ')}${hint}`, {
      ...(details?.status === undefined ? {} : { status: details.status }),
      isTemporary: details?.isTemporary ?? false,
      retryAfterMs: details?.retryAfterMs,
    });
  }

  toString(): string {
    return formatReference(this.reference);
  }
  get repository(): string {
    return repositoryOf(this.reference);
  }
}

function delayMs(firstMs: number, round: number, failures: readonly { readonly error: Fault }[]): number {
  const asked = failures.map(({ error }) => (error instanceof RegistryError ? (error.retryAfterMs ?? 0) : 0));
  return Math.min(maxDelayMs, Math.max(firstMs * 2 ** (round - 1), ...asked));
}
