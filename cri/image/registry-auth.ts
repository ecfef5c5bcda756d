/**
 * Who we are to a registry: nobody, a name and password, an identity token, or a bearer token; tokens are fetched where the registry's challenge says
 * and kept until shortly before they expire (distribution-spec's token authentication, distribution.github.io/distribution/spec/auth/token/).
 */
import { createHash } from 'node:crypto';
import type { AuthConfig } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { parseChallenges, type Challenge } from './registry-challenge.ts';
import { answerError, readLimited, RegistryError, type RegistryHttp } from './registry-http.ts';
import type { Endpoint } from './registry-hosts.ts';
import { SharedWork } from './shared-work.ts';

export type Credentials =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity-token'; readonly token: string }
  | { readonly kind: 'registry-token'; readonly token: string };

const anonymous: Credentials = { kind: 'anonymous' };

/** Docker's own registry has several names. */
export const canonicalHost = (host: string): string =>
  ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'].includes(host) ? 'docker.io' : host;

/** `serverAddress`, when it is set, is the only registry that may see the rest (containerd ParseAuth); it is written in many ways. */
function isMeantFor(serverAddress: string, registry: string): boolean {
  const host = serverAddress.replace(/^[a-z]+:\/\//, '').split('/', 1)[0] ?? '';
  return canonicalHost(host) === canonicalHost(registry);
}

/** What of the CRI's AuthConfig is for `registry` (a domain). Throws Fault invalid for an `auth` that is not base64 of `user:password`. */
export function credentialsOf(auth: AuthConfig | undefined, registry: string): Credentials {
  if (auth === undefined) return anonymous;
  if (auth.serverAddress !== '' && !isMeantFor(auth.serverAddress, registry)) return anonymous;
  if (auth.username !== '') return { kind: 'password', username: auth.username, password: auth.password };
  if (auth.identityToken !== '') return { kind: 'identity-token', token: auth.identityToken };
  if (auth.registryToken !== '') return { kind: 'registry-token', token: auth.registryToken };
  if (auth.auth === '') return anonymous;
  const decoded = Buffer.from(auth.auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon <= 0) throw new Fault('invalid', 'the image pull credentials are damaged: auth is not base64 of "user:password"');
  return { kind: 'password', username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replace(/\0+$/, '') };
}

/** Equal credentials, equal key; says nothing about them. */
export const credentialsKey = (credentials: Credentials): string =>
  credentials.kind === 'anonymous' ? 'anonymous' : createHash('sha256').update(JSON.stringify(credentials)).digest('hex');

const basic = (credentials: { username: string; password: string }): string =>
  `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;

/** Tokens without an expiry live this long (the specification's default). */
const defaultLifeSeconds = 60;
const slackMs = 5000;
const maxKeptTokens = 1000;
const maxTokenBytes = 1024 * 1024;

interface Kept {
  readonly header: string;
  readonly untilMs: number;
}
export interface AccessRequest {
  readonly endpoint: Endpoint;
  /** Repository path below the registry. */
  readonly repository: string;
  readonly credentials: Credentials;
}

export class RegistryAuth {
  readonly #http: Pick<RegistryHttp, 'send'>;
  readonly #kept = new Map<string, Kept>();
  readonly #asking = new SharedWork<string>();

  constructor(http: Pick<RegistryHttp, 'send'>) {
    this.#http = http;
  }

  /** The Authorization header that worked last time, undefined when there is none. */
  remembered(access: AccessRequest, nowMs = Date.now()): string | undefined {
    if (access.credentials.kind === 'registry-token') return `Bearer ${access.credentials.token}`;
    const kept = this.#kept.get(keyOf(access));
    return kept !== undefined && kept.untilMs > nowMs ? kept.header : undefined;
  }

  /**
   * Answers a 401. Undefined when there is nothing to answer with, or when the header that was refused (`sent`) is all we have.
   * Throws RegistryError when the token server refuses.
   */
  async answer(ctx: Ctx, access: AccessRequest, response: { readonly challenge: string; readonly sent: string | undefined }): Promise<string | undefined> {
    const { credentials } = access;
    if (credentials.kind === 'registry-token') return undefined;
    const remembered = this.remembered(access);
    if (remembered !== undefined && remembered !== response.sent) return remembered;
    const challenges = parseChallenges(response.challenge);
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters['realm'] !== undefined);
    if (bearer !== undefined) {
      // A fresh token that was refused at once would be refused again.
      if (response.sent !== undefined && remembered === response.sent) this.#kept.delete(keyOf(access));
      return this.#asking.join(ctx, keyOf(access), (shared) => this.#fetchToken(shared, access, bearer));
    }
    if (credentials.kind !== 'password' || !challenges.some(({ scheme }) => scheme === 'basic')) return undefined;
    const header = basic(credentials);
    if (response.sent === header) return undefined;
    this.#keep(access, { header, untilMs: Infinity });
    return header;
  }

  #keep(access: AccessRequest, kept: Kept): void {
    const key = keyOf(access);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    for (const old of this.#kept.keys()) {
      if (this.#kept.size <= maxKeptTokens) break;
      this.#kept.delete(old);
    }
  }

  async #fetchToken(ctx: Ctx, access: AccessRequest, challenge: Challenge): Promise<string> {
    const { credentials, endpoint } = access;
    const realm = tokenRealm(challenge.parameters['realm'] ?? '', endpoint, credentials);
    const service = challenge.parameters['service'];
    const scope = challenge.parameters['scope'] ?? `repository:${access.repository}:pull`;
    const what = `token server ${realm.origin}`;
    const isExchange = credentials.kind === 'identity-token';
    if (!isExchange) {
      if (service !== undefined) realm.searchParams.set('service', service);
      for (const word of scope.split(' ')) realm.searchParams.append('scope', word);
    }
    const form = isExchange
      ? exchangeForm(credentials.token, scope, service)
      : undefined;
    const response = await this.#http.send(ctx, tokenEndpoint(endpoint, realm), {
      method: form === undefined ? 'GET' : 'POST',
      url: realm,
      headers: {
        ...(credentials.kind === 'password' ? { authorization: basic(credentials) } : {}),
        ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      },
      ...(form === undefined ? {} : { body: form.toString() }),
    });
    if (response.statusCode !== 200) throw await answerError(response, what);
    const { token, lifeSeconds } = parseToken(await readLimited(response, maxTokenBytes), what);
    const header = `Bearer ${token}`;
    this.#keep(access, { header, untilMs: Date.now() + lifeSeconds * 1000 - slackMs });
    return header;
  }
}

/** OAuth 2 as registries speak it (distribution, spec/auth/oauth). */
const exchangeForm = (token: string, scope: string, service: string | undefined): URLSearchParams =>
  new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token, client_id: 'nodelet', scope, ...(service === undefined ? {} : { service }) });

const keyOf = ({ endpoint, repository, credentials }: AccessRequest): string =>
  [endpoint.scheme, endpoint.host, endpoint.path, repository, credentialsKey(credentials)].join(' ');

const unusable = (message: string, cause?: unknown): RegistryError => new RegistryError('unavailable', message, { isTemporary: false, cause });

/** A registry that we reach by https does not make us say a password in the clear. */
function tokenRealm(realm: string, endpoint: Endpoint, credentials: Credentials): URL {
  let url: URL;
  try {
    url = new URL(realm);
  } catch (cause) {
    throw unusable(`${endpoint.host} names a token server that is no address (${JSON.stringify(realm)})`, cause);
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw unusable(`${endpoint.host} names a token server that is not http (${url.protocol})`);
  }
  if (url.protocol === 'http:' && endpoint.scheme === 'https' && !endpoint.mayBePlain && credentials.kind !== 'anonymous') {
    throw unusable(`${endpoint.host} wants the credentials sent to ${url.origin} without encryption; they were not sent`);
  }
  return url;
}

/** The registry's own headers and client certificate are for the registry only. */
const tokenEndpoint = (endpoint: Endpoint, realm: URL): Endpoint =>
  realm.host === endpoint.host ? endpoint : { ...endpoint, headers: {}, tls: { ...endpoint.tls, cert: undefined, key: undefined } };

function parseToken(body: Buffer, what: string): { token: string; lifeSeconds: number } {
  let document: { token?: unknown; access_token?: unknown; expires_in?: unknown };
  try {
    document = JSON.parse(body.toString('utf8')) as typeof document;
  } catch (cause) {
    throw unusable(`${what}: its answer is not JSON`, cause);
  }
  const token = document.token ?? document.access_token;
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw unusable(`${what}: its answer has no token`);
  }
  const { expires_in: life } = document;
  return { token, lifeSeconds: typeof life === 'number' && life > 0 ? Math.min(life, 86_400) : defaultLifeSeconds };
}
