/**
 * A read-only image registry (distribution v2 API) over OCI layouts that hack/images wrote, under the images' original names: the host part is dropped,
 * so one registry stands in for all of them by certs.d/HOST/hosts.toml files. It can ask for credentials, and it can misbehave on request.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { sendBlob, sendError, sendHugeManifest, sendJson, type Bytes, type Misbehaviour } from './registry-answer.ts';
import { blobPath, readLayout, type Descriptor, type NamedImage } from './images/layout.ts';

export interface RegistryOptions {
  readonly layouts: readonly string[];
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** `basic` asks every request for user and password; `token` sends clients to /token for a bearer token first, which takes user and password if they are set. */
  readonly auth?: { readonly kind: 'basic' | 'token'; readonly username?: string; readonly password?: string };
  /** What one connection gets at most, as through a wide network that is far away. */
  readonly bytesPerSecond?: number;
}

export interface Trouble {
  readonly behave: Misbehaviour;
  readonly kind: 'manifests' | 'blobs';
  /** Only for requests whose repository or digest/tag contains this. */
  readonly matching?: string;
  /** How many requests meet it. Default: all. */
  readonly times?: number;
}

export interface RequestRecord {
  readonly method: string;
  /** As the client asked it: the `Host` header. */
  readonly host: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly hasCredentials: boolean;
  readonly status: number;
}

export interface Registry extends AsyncDisposable {
  /** HOST:PORT. */
  readonly address: string;
  readonly images: readonly NamedImage[];
  /** What was asked so far, oldest first. */
  readonly requests: readonly RequestRecord[];
  /** From now on; until the returned function is called or `times` is used up. */
  trouble(trouble: Trouble): () => void;
  /** Writes HOST/hosts.toml for every host of the images (and the given ones), so that a CRI server pulls them from here. */
  writeHosts(dir: string, moreHosts?: readonly string[]): Promise<void>;
}

interface Wanted { readonly repository: string; readonly kind: 'manifests' | 'blobs' | 'tags'; readonly name: string }

export async function startRegistry(options: RegistryOptions): Promise<Registry> {
  const { layouts, host = '127.0.0.1', port = 0 } = options;
  const images = layouts.flatMap((layout) => readLayout(layout));
  const content = new Content(layouts);
  const requests: RequestRecord[] = [];
  const troubles: { trouble: Trouble; left: number }[] = [];
  const token = randomBytes(16).toString('hex');
  const meets = (wanted: Wanted): Misbehaviour | undefined => {
    const met = troubles.find(({ trouble: { kind, matching = '' }, left }) => left > 0 && kind === wanted.kind && `${wanted.repository} ${wanted.name}`.includes(matching));
    if (met === undefined) return undefined;
    met.left--;
    return met.trouble.behave;
  };
  const server = createServer((request, response) => {
    const { method = '', url = '', headers: { host: asked = '', range, authorization } } = request;
    response.on('close', () => { requests.push({ method, host: asked, path: url, range, hasCredentials: authorization !== undefined, status: response.statusCode }); });
    if (url.startsWith(signedPrefix) || isAllowed(request, response, options.auth, token)) answer(request, response, { content, meets, bytesPerSecond: options.bytesPerSecond });
  });
  await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(port, host, resolve); });
  const address = `${host}:${(server.address() as AddressInfo).port}`;
  return {
    address, images, requests,
    trouble: (trouble) => {
      const entry = { trouble, left: trouble.times ?? Number.POSITIVE_INFINITY };
      troubles.push(entry);
      return () => { entry.left = 0; };
    },
    writeHosts: async (dir, moreHosts = []) => {
      for (const each of new Set([...images.map((image) => image.host), ...moreHosts])) {
        await mkdir(path.join(dir, each), { recursive: true });
        await writeFile(path.join(dir, each, 'hosts.toml'), hostsToml(address));
      }
    },
    [Symbol.asyncDispose]: () => new Promise((resolve) => { server.close(() => { resolve(); }); server.closeAllConnections(); }),
  };
}

/** `server` too, or a missing image is then looked for at the real registry. */
const hostsToml = (address: string): string => `server = "http://${address}"\n\n[host."http://${address}"]\n  capabilities = ["pull", "resolve"]\n`;

/** What the layouts hold: tags, and the media type of every manifest. */
class Content {
  readonly #layouts: readonly string[];
  readonly #tags = new Map<string, Descriptor>();
  readonly #mediaTypes = new Map<string, string>();

  constructor(layouts: readonly string[]) {
    this.#layouts = layouts;
    for (const { repository, tag, descriptor } of layouts.flatMap((layout) => readLayout(layout))) {
      this.#tags.set(`${repository}:${tag}`, descriptor);
      this.#learn(descriptor);
    }
  }

  #learn(descriptor: Descriptor): void {
    this.#mediaTypes.set(descriptor.digest, descriptor.mediaType);
    const file = this.#file(descriptor.digest);
    if (file === undefined) throw new Error(`the layout has no blob ${descriptor.digest}`);
    const { manifests = [] } = JSON.parse(readFileSync(file, 'utf8')) as { manifests?: Descriptor[] };
    for (const child of manifests) this.#learn(child);
  }

  #file(digest: string): string | undefined {
    return this.#layouts.map((layout) => blobPath(layout, digest)).find((file) => existsSync(file));
  }

  tags(repository: string): string[] {
    return [...this.#tags.keys()].filter((each) => each.startsWith(`${repository}:`)).map((each) => each.slice(repository.length + 1)).sort();
  }

  find({ repository, kind, name }: Wanted): Bytes | undefined {
    const digest = kind === 'manifests' && !name.startsWith('sha256:') ? this.#tags.get(`${repository}:${name}`)?.digest : name;
    if (digest === undefined || !/^sha256:[0-9a-f]{64}$/.test(digest)) return undefined;
    const file = this.#file(digest);
    const mediaType = kind === 'manifests' ? this.#mediaTypes.get(digest) : 'application/octet-stream';
    return file === undefined || mediaType === undefined ? undefined : { file, digest, mediaType };
  }
}

/** Answers 401 or the token itself and returns false, or returns true. */
function isAllowed(request: IncomingMessage, response: ServerResponse, auth: RegistryOptions['auth'], token: string): boolean {
  if (auth === undefined) return true;
  const given = request.headers.authorization ?? '';
  const credentials = auth.username === undefined ? undefined : `Basic ${Buffer.from(`${auth.username}:${auth.password ?? ''}`).toString('base64')}`;
  const url = new URL(request.url ?? '/', `http://${request.headers.host ?? 'registry'}`);
  if (auth.kind === 'token' && url.pathname === '/token') {
    if (credentials !== undefined && given !== credentials) sendError(response, 401, 'UNAUTHORIZED', 'wrong user or password');
    else sendJson(response, 200, { token, access_token: token, expires_in: 300 });
    return false;
  }
  if (auth.kind === 'basic' ? given === credentials : given === `Bearer ${token}`) return true;
  const repository = /^\/v2\/(.+)\/(?:manifests|blobs|tags)\//.exec(url.pathname)?.[1];
  const scope = repository === undefined ? '' : `,scope="repository:${repository}:pull"`;
  const challenge = auth.kind === 'basic' ? 'Basic realm="e2e"' : `Bearer realm="${url.origin}/token",service="e2e"${scope}`;
  sendError(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
  return false;
}

interface Place {
  readonly content: Content;
  readonly meets: (wanted: Wanted) => Misbehaviour | undefined;
  readonly bytesPerSecond: number | undefined;
}

/** Where `redirect` sends clients: the same content without asking who they are, as an object store does with a signed URL, and it refuses who says it. */
const signedPrefix = '/signed';

function answer(request: IncomingMessage, response: ServerResponse, { content, meets, bytesPerSecond }: Place): void {
  const url = new URL(request.url ?? '/', `http://${request.headers.host ?? 'registry'}`);
  const isSigned = url.pathname.startsWith(signedPrefix);
  const pathname = isSigned ? url.pathname.slice(signedPrefix.length) : url.pathname;
  if (request.method !== 'GET' && request.method !== 'HEAD') { sendError(response, 405, 'UNSUPPORTED', 'this registry is read-only'); return; }
  if (isSigned && request.headers.authorization !== undefined) { sendError(response, 400, 'DENIED', 'two ways to say who you are'); return; }
  if (pathname === '/v2/' || pathname === '/v2') { sendJson(response, 200, {}); return; }
  const [, repository, kind, name] = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(pathname) ?? [];
  if (repository === undefined || name === undefined || (kind !== 'manifests' && kind !== 'blobs' && kind !== 'tags')) { sendError(response, 404, 'NOT_FOUND', pathname); return; }
  if (kind === 'tags') { sendJson(response, 200, { name: repository, tags: content.tags(repository) }); return; }
  const wanted = { repository, kind, name } as const;
  const behave = isSigned ? undefined : meets(wanted);
  if (behave === 'too-many-requests') { sendError(response, 429, 'TOOMANYREQUESTS', 'too many requests', { 'retry-after': '1' }); return; }
  if (behave === 'unavailable') { sendError(response, 503, 'UNAVAILABLE', 'try later'); return; }
  if (behave === 'redirect-loop') { response.writeHead(307, { location: url.href }).end(); return; }
  if (behave === 'redirect') { response.writeHead(307, { location: `http://localhost:${url.port}${signedPrefix}${pathname}?expires=1` }).end(); return; }
  if (behave === 'huge-manifest') { sendHugeManifest(response); return; }
  const found = content.find(wanted);
  if (found === undefined) { sendError(response, 404, kind === 'manifests' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN', `${repository} has no ${name}`); return; }
  sendBlob(request, response, found, { behave, bytesPerSecond: kind === 'blobs' ? bytesPerSecond : undefined });
}

/** node hack/registry.ts [--layout DIR]… [--listen HOST:PORT] [--hosts CERTS_DIR]: serves until it is interrupted. */
async function main(argv: readonly string[]): Promise<void> {
  const { parseArgs } = await import('node:util');
  const { values } = parseArgs({ args: [...argv], options: { layout: { type: 'string', multiple: true }, listen: { type: 'string' }, hosts: { type: 'string' } } });
  const [host = '127.0.0.1', port = '5511'] = (values.listen ?? '').split(':').filter(Boolean);
  const registry = await startRegistry({ layouts: values.layout ?? [], host, port: Number(port) });
  if (values.hosts !== undefined) await registry.writeHosts(values.hosts);
  for (const image of registry.images) console.log(image.reference);
  console.log(`serving ${registry.images.length} images on http://${registry.address}`);
}

if (import.meta.main) await main(process.argv.slice(2));
