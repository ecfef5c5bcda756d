/**
 * A read-only image registry (distribution v2 API) over OCI layouts that hack/images wrote, under the images' original names: the host part is dropped,
 * so one registry stands in for all of them by certs.d/HOST/hosts.toml files. It can ask for credentials, and it can misbehave on request.
 */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { blobPath, readLayout, type Descriptor, type NamedImage } from './images/layout.ts';

export interface RegistryOptions {
  readonly layouts: readonly string[];
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** `basic` asks every request for user and password; `token` sends clients to /token for a bearer token first, which takes user and password if they are set. */
  readonly auth?: { readonly kind: 'basic' | 'token'; readonly username?: string; readonly password?: string };
}

export type Misbehaviour =
  /** Half of the body, then silence on an open connection. */
  | 'stall'
  /** Half of the body, then the connection breaks. */
  | 'truncate'
  /** The right length, but other bytes. */
  | 'wrong-digest'
  /** 429 with Retry-After: 1. */
  | 'too-many-requests'
  /** 503. */
  | 'unavailable';

export interface Trouble {
  readonly behave: Misbehaviour;
  readonly kind: 'manifests' | 'blobs';
  /** Only for requests whose repository or digest/tag contains this. */
  readonly matching?: string;
  /** How many requests meet it. Default: all. */
  readonly times?: number;
}

export interface RequestRecord { readonly method: string; readonly path: string; readonly range: string | undefined; readonly status: number }

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
interface Found { readonly file: string; readonly digest: string; readonly mediaType: string }

const acceptsRange = /^bytes=(\d+)-(\d*)$/;

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
    response.on('close', () => { requests.push({ method: request.method ?? '', path: request.url ?? '', range: request.headers.range, status: response.statusCode }); });
    if (isAllowed(request, response, options.auth, token)) answer(request, response, content, meets);
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

  find({ repository, kind, name }: Wanted): Found | undefined {
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

function answer(request: IncomingMessage, response: ServerResponse, content: Content, meets: (wanted: Wanted) => Misbehaviour | undefined): void {
  const { pathname } = new URL(request.url ?? '/', 'http://registry');
  if (request.method !== 'GET' && request.method !== 'HEAD') { sendError(response, 405, 'UNSUPPORTED', 'this registry is read-only'); return; }
  if (pathname === '/v2/' || pathname === '/v2') { sendJson(response, 200, {}); return; }
  const [, repository, kind, name] = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(pathname) ?? [];
  if (repository === undefined || name === undefined || (kind !== 'manifests' && kind !== 'blobs' && kind !== 'tags')) { sendError(response, 404, 'NOT_FOUND', pathname); return; }
  if (kind === 'tags') { sendJson(response, 200, { name: repository, tags: content.tags(repository) }); return; }
  const wanted = { repository, kind, name } as const;
  const behave = meets(wanted);
  if (behave === 'too-many-requests') { sendError(response, 429, 'TOOMANYREQUESTS', 'too many requests', { 'retry-after': '1' }); return; }
  if (behave === 'unavailable') { sendError(response, 503, 'UNAVAILABLE', 'try later'); return; }
  const found = content.find(wanted);
  if (found === undefined) { sendError(response, 404, kind === 'manifests' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN', `${repository} has no ${name}`); return; }
  sendFile(request, response, found, behave);
}

function sendFile(request: IncomingMessage, response: ServerResponse, found: Found, behave: Misbehaviour | undefined): void {
  const { size } = statSync(found.file);
  const range = acceptsRange.exec(request.headers.range ?? '');
  const start = range === null ? 0 : Number(range[1]);
  const end = Math.min(size - 1, range === null || range[2] === '' ? size - 1 : Number(range[2]));
  if (range !== null && start > end) { sendError(response, 416, 'RANGE_INVALID', request.headers.range ?? ''); return; }
  response.writeHead(range === null ? 200 : 206, {
    'content-type': found.mediaType, 'docker-content-digest': found.digest, 'accept-ranges': 'bytes', 'content-length': end - start + 1,
    ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${size}` }),
  });
  if (request.method === 'HEAD' || size === 0) { response.end(); return; }
  if (behave === 'wrong-digest') { response.end(spoiled(found.file, start, end)); return; }
  const half = behave === 'stall' || behave === 'truncate' ? start + Math.floor((end - start) / 2) : end;
  const stream = createReadStream(found.file, { start, end: half });
  stream.on('error', () => { response.destroy(); });
  response.on('close', () => { stream.destroy(); });
  stream.pipe(response, { end: behave === undefined });
  if (behave === 'truncate') stream.on('end', () => { setTimeout(() => { response.destroy(); }, 50); }); // what was written should arrive
}

/** The same length with every byte inverted. */
function spoiled(file: string, start: number, end: number): Buffer {
  const data = readFileSync(file).subarray(start, end + 1);
  return data.map((byte) => byte ^ 0xff) as Buffer;
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers }).end(text);
}

function sendError(response: ServerResponse, status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}): void {
  sendJson(response, status, { errors: [{ code, message }] }, headers);
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
