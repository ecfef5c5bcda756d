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
import type { BlobSize } from './ingest.ts';
import { manifestMediaTypes, maxManifestBytes } from './manifest.ts';
import { formatReference, repositoryOf, type Reference } from './reference.ts';
import { credentialsOf, RegistryAuth, type Credentials } from './registry-auth.ts';
import { credentialsFor, readCredentials, type NodeCredentials } from './registry-credentials.ts';
import { addressOf, registryEndpoints, type Endpoint } from './registry-hosts.ts';
import { answerError, readLimited, RegistryError, RegistryHttp } from './registry-http.ts';
import { Slots } from './slots.ts';

/** What can change at any time. */
export interface RegistryLimits {
  /** See registry-credentials.ts. */
  readonly credentialsFile?: string | undefined;
  /** No byte of a blob for this long is a failure. Default five minutes. */
  readonly progressTimeoutMs?: number;
  /** Connections that fetch blobs: of one registry together, and of one blob. Defaults 16 and 4. */
  readonly connectionsPerRegistry?: number;
  readonly connectionsPerBlob?: number;
}

export interface RegistryOptions extends RegistryLimits {
  readonly certsDir: string;
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
  /** It ends where it was asked to, not with the blob. */
  readonly isBounded: boolean;
  readonly endpoint: Endpoint;
}
/** From a byte on, to its end or to before another. */
export interface BlobRange {
  readonly from: number;
  readonly to: number | undefined;
}

const rounds = 4;
const maxDelayMs = 30_000;
/** For a manifest as a whole. */
const manifestTimeoutMs = 60_000;

export class Registry {
  readonly retryDelayMs: number;
  readonly http: RegistryHttp;
  readonly auth: RegistryAuth;
  readonly #certsDir: string;
  #limits: RegistryLimits;
  /** By domain. As many as there are registries in use. */
  readonly #connections = new Map<string, Slots>();

  constructor(options: RegistryOptions) {
    this.#certsDir = options.certsDir;
    this.#limits = options;
    this.retryDelayMs = options.retryDelayMs ?? 500;
    this.http = new RegistryHttp({ userAgent: options.userAgent ?? 'nodelet' });
    this.auth = new RegistryAuth(this.http);
  }

  get progressTimeoutMs(): number {
    return this.#limits.progressTimeoutMs ?? 300_000;
  }
  get connectionsPerBlob(): number {
    return this.#limits.connectionsPerBlob ?? 4;
  }

  /** For requests from now on; pulls that run share their connections as before. */
  setLimits(limits: RegistryLimits): void {
    this.#limits = limits;
    this.#connections.clear();
  }

  /** Reads the configuration of the registry's hosts, anew each time. Throws Fault invalid for a broken one. */
  async session(request: { readonly reference: Reference; readonly auth: AuthConfig | undefined }): Promise<RegistrySession> {
    const endpoints = await registryEndpoints(this.#certsDir, request.reference.domain);
    return new RegistrySession(this, { ...request, node: await readCredentials(this.#limits.credentialsFile) }, endpoints);
  }

  connections(domain: string): Slots {
    let slots = this.#connections.get(domain);
    if (slots === undefined) this.#connections.set(domain, (slots = new Slots(this.#limits.connectionsPerRegistry ?? 16)));
    return slots;
  }

  close(): void {
    this.http.close();
  }
}

interface SessionRequest {
  readonly reference: Reference;
  readonly auth: AuthConfig | undefined;
  readonly node: NodeCredentials;
}

export class RegistrySession {
  readonly reference: Reference;
  readonly #registry: Registry;
  readonly #auth: AuthConfig | undefined;
  readonly #node: NodeCredentials;
  #endpoints: readonly Endpoint[];

  constructor(registry: Registry, request: SessionRequest, endpoints: readonly Endpoint[]) {
    this.#registry = registry;
    this.reference = request.reference;
    this.#auth = request.auth;
    this.#node = request.node;
    this.#endpoints = endpoints;
  }

  get progressTimeoutMs(): number {
    return this.#registry.progressTimeoutMs;
  }
  get retryDelayMs(): number {
    return this.#registry.retryDelayMs;
  }
  get connectionsPerBlob(): number {
    return this.#registry.connectionsPerBlob;
  }
  /** How many connections may fetch blobs of this registry at once, in all pulls together. */
  get connections(): Slots {
    return this.#registry.connections(this.reference.domain);
  }
  get endpointCount(): number {
    return this.#endpoints.length;
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

  /**
   * A blob or a range of it, not verified. The caller reads the stream to its end or destroys it. `once`: one that fails is not asked again, and an
   * answer with anything but the range is a failure.
   */
  async blob(ctx: Ctx, blob: BlobSize, range: BlobRange, options: { readonly once: boolean } = { once: false }): Promise<BlobStream> {
    return this.#anyEndpoint(ctx, 'pull', async (endpoint) => {
      const { from, to } = range;
      const headers = from === 0 && to === undefined ? {} : { range: `bytes=${from}-${to === undefined ? '' : to - 1}` };
      const response = await this.#send(ctx, endpoint, { method: 'GET', path: `blobs/${blob.digest}`, headers });
      const offset = offsetOf(response, blob, from);
      if (offset !== undefined && (offset === from || !options.once)) return { stream: response, offset, isBounded: to !== undefined && response.statusCode === 206, endpoint };
      if (options.once && (offset !== undefined || response.statusCode === 206 || response.statusCode === 416)) {
        response.destroy();
        throw new RegistryError('unavailable', 'it sends no ranges', { isTemporary: false });
      }
      if (from > 0 && (response.statusCode === 206 || response.statusCode === 416)) {
        response.destroy();
        const whole = await this.#send(ctx, endpoint, { method: 'GET', path: `blobs/${blob.digest}`, headers: {} });
        if (offsetOf(whole, blob, 0) === 0) return { stream: whole, offset: 0, isBounded: false, endpoint };
        throw await answerError(whole, `blob ${blob.digest}`);
      }
      throw await answerError(response, `blob ${blob.digest}`);
    }, options.once ? 1 : rounds);
  }

  /** After it sent wrong content: not asked again in this session. False when it was the last. */
  exclude(endpoint: Endpoint): boolean {
    const others = this.#endpoints.filter((other) => other !== endpoint);
    if (!others.some(({ canPull }) => canPull)) return false;
    this.#endpoints = others;
    return true;
  }

  /** After it stopped in the middle: the others first, from now on. */
  demote(endpoint: Endpoint): void {
    this.#endpoints = [...this.#endpoints.filter((other) => other !== endpoint), ...this.#endpoints.filter((other) => other === endpoint)];
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
    const access = { endpoint, repository, credentials: this.#credentials(endpoint) };
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

  /** Those of the pull, which are for the registry and its mirrors unless they name one; then those of the node, which are for the host that they name. */
  #credentials(endpoint: Endpoint): Credentials {
    const { path: repository, domain } = this.reference;
    for (const host of [domain, endpoint.host]) {
      const credentials = credentialsOf(this.#auth, host);
      if (credentials.kind !== 'anonymous') return credentials;
    }
    return credentialsFor(this.#node, endpoint.isMirror ? endpoint.host : domain, repository) ?? { kind: 'anonymous' };
  }

  /** In order, several rounds while failures are temporary. The error names every endpoint and what it said. */
  async #anyEndpoint<T>(ctx: Ctx, capability: 'pull' | 'resolve', ask: (endpoint: Endpoint) => Promise<T>, maxRounds = rounds): Promise<T> {
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
      if (temporary.length === 0 || round === maxRounds) throw this.#allFailed(failures);
      await sleep(delayMs(this.#registry.retryDelayMs, round, temporary), undefined, { signal: ctx.signal });
    }
  }

  #allFailed(failures: readonly { readonly endpoint: Endpoint; readonly error: Fault }[]): Fault {
    const [last] = failures.slice(-1);
    const told = failures.map(({ endpoint, error }) => {
      const where = addressOf(endpoint);
      const text = explain(error);
      return text.replace(/^https?:\/\//, '').startsWith(where.replace(/^https?:\/\//, '')) ? text : `${where}: ${text}`;
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

/** Where in the blob the answer's body begins, undefined when it is no content. Throws RegistryError when it speaks of a blob of another length. */
function offsetOf(response: IncomingMessage, blob: BlobSize, from: number): number | undefined {
  const { statusCode, headers } = response;
  const range = /^bytes ([0-9]+)-[0-9]+\/([0-9]+|\*)$/.exec(headers['content-range'] ?? '');
  const said = statusCode === 200 ? headers['content-length'] : statusCode === 206 && range?.[2] !== '*' ? range?.[2] : undefined;
  if (said !== undefined && Number(said) !== blob.sizeBytes) {
    response.destroy();
    throw new RegistryError('invalid', `blob ${blob.digest} has ${said} bytes there, ${blob.sizeBytes} in the manifest`, { isTemporary: false });
  }
  if (statusCode === 200) return 0;
  return statusCode === 206 && Number(range?.[1]) === from ? from : undefined;
}

function delayMs(firstMs: number, round: number, failures: readonly { readonly error: Fault }[]): number {
  const asked = failures.map(({ error }) => (error instanceof RegistryError ? (error.retryAfterMs ?? 0) : 0));
  return Math.min(maxDelayMs, Math.max(firstMs * 2 ** (round - 1), ...asked));
}
