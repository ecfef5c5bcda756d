/** HTTP to registries: connections kept per endpoint, redirects that take no secrets along, and errors that say what happened. */
import { createHash, X509Certificate } from 'node:crypto';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault, type FaultKind } from '#host/fault.ts';
import type { Endpoint, EndpointTls } from './registry-hosts.ts';

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string;
}

interface RegistryErrorDetails {
  readonly status?: number;
  readonly isTemporary: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly code?: string;
  readonly cause?: unknown;
}

/** A failed exchange with a registry. */
export class RegistryError extends Fault {
  /** Undefined when no answer came. */
  readonly status: number | undefined;
  /** The same request may succeed a little later. */
  readonly isTemporary: boolean;
  readonly retryAfterMs: number | undefined;
  /** The system's or OpenSSL's, when no answer came. */
  readonly code: string;
  constructor(kind: FaultKind, message: string, details: RegistryErrorDetails) {
    super(kind, message, details.cause);
    this.name = 'RegistryError';
    this.status = details.status;
    this.isTemporary = details.isTemporary;
    this.retryAfterMs = details.retryAfterMs;
    this.code = details.code ?? '';
  }
}

const maxRedirects = 10;
const answerTimeoutMs = 30_000;
const keptAgents = 64;
/** Only ever sent to the endpoint itself. */
const secretHeaders = ['authorization', 'cookie', 'proxy-authorization'];

export class RegistryHttp {
  readonly #userAgent: string;
  /** Hosts that may be plain and are. */
  readonly #plain = new Set<string>();
  readonly #agents = new Map<string, HttpAgent | HttpsAgent>();

  constructor(options: { readonly userAgent: string }) {
    this.#userAgent = options.userAgent;
  }

  /** The answer once its headers are in, whatever its status; redirects are followed. The caller reads or destroys it. Throws RegistryError. */
  async send(ctx: Ctx, endpoint: Endpoint, request: RegistryRequest): Promise<IncomingMessage> {
    let { url } = request;
    let headers: Readonly<Record<string, string | readonly string[]>> = { ...endpoint.headers, ...request.headers };
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const { response, asked } = await this.#eitherWay(ctx, endpoint, { ...request, url, headers });
      url = asked;
      const { statusCode = 0 } = response;
      const location = response.headers.location;
      if (![301, 302, 303, 307, 308].includes(statusCode) || location === undefined || request.method === 'POST') return response;
      response.resume();
      const next = new URL(location, url);
      if (next.protocol !== 'http:' && next.protocol !== 'https:') {
        throw new RegistryError('unavailable', `${hostOf(url)} redirects to ${next.protocol}, which is not http`, { isTemporary: false });
      }
      // Another origin gets nothing that was meant for this one: signed URLs of object stores even refuse it.
      if (next.origin !== url.origin) {
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => !secretHeaders.includes(name) && !(name in endpoint.headers)));
      }
      url = next;
    }
    throw new RegistryError('unavailable', `${hostOf(request.url)} redirects more than ${maxRedirects} times`, { isTemporary: false });
  }

  /** By https, or by http where that is allowed and https is not spoken (containerd core/remotes/docker, NewHTTPFallback). */
  async #eitherWay(ctx: Ctx, endpoint: Endpoint, request: RegistryRequest): Promise<{ response: IncomingMessage; asked: URL }> {
    const { url } = request;
    const mayBePlain = endpoint.mayBePlain && url.host === endpoint.host && url.protocol === 'https:';
    if (!mayBePlain || !this.#plain.has(url.host)) {
      try {
        return { response: await this.#exchange(ctx, endpoint, request), asked: url };
      } catch (error) {
        if (!mayBePlain || !(error instanceof RegistryError && speaksNoTls(error.code))) throw error;
        this.#plain.add(url.host);
      }
    }
    const asked = new URL(url);
    asked.protocol = 'http:';
    try {
      return { response: await this.#exchange(ctx, endpoint, { ...request, url: asked }), asked };
    } catch (error) {
      // Perhaps it has learnt TLS since: whoever asks again finds out.
      this.#plain.delete(url.host);
      throw error;
    }
  }

  #exchange(ctx: Ctx, endpoint: Endpoint, request: RegistryRequest): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const { url, method, headers, body } = request;
    const isOwn = url.host === endpoint.host;
    const outgoing = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method,
      agent: this.#agent(url.protocol, isOwn ? endpoint : { ...endpoint, tls: { ...endpoint.tls, cert: undefined, key: undefined } }),
      headers: { 'user-agent': this.#userAgent, ...headers },
      signal: ctx.signal,
    });
    const timeoutMs = answerTimeoutMs + (endpoint.dialTimeoutMs ?? 0);
    const timer = setTimeout(() => outgoing.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    if (endpoint.dialTimeoutMs !== undefined) limitDial(outgoing, endpoint.dialTimeoutMs);
    outgoing.on('response', (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    outgoing.on('error', (cause) => {
      clearTimeout(timer);
      reject(ctx.signal.aborted ? (ctx.signal.reason as Error) : noAnswer(cause, url));
    });
    outgoing.end(body);
    return promise;
  }

  #agent(protocol: string, endpoint: Endpoint): HttpAgent | HttpsAgent {
    const { tls } = endpoint;
    const key = protocol === 'http:' ? 'http' : createHash('sha256').update(JSON.stringify(tls)).digest('hex');
    let agent = this.#agents.get(key);
    if (agent !== undefined) return agent;
    const options = { keepAlive: true, maxSockets: 32, maxFreeSockets: 8, timeout: 0, proxyEnv: process.env };
    if (protocol === 'http:') agent = new HttpAgent(options);
    else agent = new HttpsAgent({ ...options, rejectUnauthorized: !tls.skipVerify, secureContext: secureContext(tls) });
    this.#agents.set(key, agent);
    for (const [oldKey, old] of this.#agents) {
      if (this.#agents.size <= keptAgents) break;
      old.destroy();
      this.#agents.delete(oldKey);
    }
    return agent;
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }
}

const hostOf = (url: URL): string => `${url.protocol}//${url.host}`;

/**
 * Made once per agent, not per connection. With the option `ca` Node would parse all authorities anew, half a second on the main thread; its root store is
 * there already, and an authority is added to it in a millisecond (what lib/internal/tls/secure-context.js itself does; Node is pinned).
 */
function secureContext({ ca, cert, key }: EndpointTls): SecureContext {
  try {
    const made = createSecureContext({ cert, key });
    const store = made.context as { addCACert(pem: string): void };
    // A damaged one would be passed over in silence.
    for (const pem of ca) for (const [one] of pem.matchAll(/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs)) store.addCACert(new X509Certificate(one).toString());
    return made;
  } catch (cause) {
    throw new Fault('invalid', 'the certificates that are configured for this host cannot be used', cause);
  }
}

function limitDial(outgoing: ReturnType<typeof httpRequest>, timeoutMs: number): void {
  outgoing.on('socket', (socket) => {
    if (!socket.connecting) return;
    const timer = setTimeout(() => outgoing.destroy(new Error(`no connection within ${timeoutMs / 1000} s`)), timeoutMs);
    for (const event of ['connect', 'close']) socket.once(event, () => clearTimeout(timer));
  });
}

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '');
const isPermanent = (error: unknown): boolean =>
  /^(?:ENOTFOUND|ECONNREFUSED|CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|EPROTO|HPE_)/.test(codeOf(error));

/** In words where we know them; then the system's own say nothing more. */
function noAnswer(cause: Error, url: URL): RegistryError {
  const code = codeOf(cause);
  const known = knownReason(code, url);
  const isTemporary = !isPermanent(cause);
  if (known !== undefined) return new RegistryError('unavailable', `${hostOf(url)}: ${known}`, { isTemporary, code });
  return new RegistryError('unavailable', `${hostOf(url)}: ${explain(cause)}`, { isTemporary, code, cause });
}

const speaksNoTls = (code: string): boolean =>
  code === 'EPROTO' || code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG';

function knownReason(code: string, url: URL): string | undefined {
  if (code === 'ECONNREFUSED') return 'connection refused';
  if (code === 'ENOTFOUND') return `host ${url.hostname} not found`;
  if (code === 'EAI_AGAIN') return `host ${url.hostname}: no answer from the name server`;
  if (code === 'ECONNRESET') return 'connection was reset';
  if (speaksNoTls(code)) {
    return 'it does not speak TLS (plain http has to be allowed in its hosts.toml)';
  }
  if (/^(?:DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/.test(code)) return `its certificate is not trusted (${code}; its authority can be named in hosts.toml)`;
  return undefined;
}

/** A refusal as an error: the status, and what the registry says about it (distribution-spec, error codes). Reads the answer's body. */
export async function answerError(response: IncomingMessage, what: string): Promise<RegistryError> {
  const status = response.statusCode ?? 0;
  const body = await readLimited(response, 16 * 1024).catch(() => Buffer.alloc(0));
  const retryAfter = response.headers['retry-after'];
  const seconds = retryAfter === undefined ? Number.NaN : /^[0-9]+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return new RegistryError(kindOf(status), `${what}: ${status} ${response.statusMessage ?? ''}`.trimEnd() + registryWords(body), {
    status,
    isTemporary: status === 429 || status === 408 || (status >= 500 && status !== 501 && status !== 505),
    retryAfterMs: Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : undefined,
  });
}

function kindOf(status: number): FaultKind {
  if (status === 404) return 'not-found';
  if (status === 401) return 'unauthorized';
  if (status === 403) return 'forbidden';
  return 'unavailable';
}

function registryWords(body: Buffer): string {
  try {
    const document = JSON.parse(body.toString('utf8')) as { errors?: { code?: unknown; message?: unknown }[] };
    const [first] = document.errors ?? [];
    if (typeof first?.code !== 'string') return '';
    return ` (${first.code}${typeof first.message === 'string' && first.message !== '' ? `: ${first.message.slice(0, 200)}` : ''})`;
  } catch {
    return '';
  }
}

/** The whole body, refused when it is longer. Not read further after that. */
export async function readLimited(response: IncomingMessage, limitBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limitBytes) {
      response.destroy();
      throw new RegistryError('invalid', `the answer is larger than ${limitBytes} bytes`, { isTemporary: false });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
