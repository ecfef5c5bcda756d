/** A registry on loopback for tests: real http, with the misbehaviour that a test asks for. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { mediaTypes } from './manifest.ts';

export interface FakeImage {
  readonly configDigest: string;
  readonly manifestDigest: string;
  readonly layerDigests: readonly string[];
  readonly diffIds: readonly string[];
}
export type Handler = (request: IncomingMessage, response: ServerResponse) => boolean;

const sha256 = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

export class FakeRegistry implements AsyncDisposable {
  readonly server: Server;
  /** `METHOD path` of every request, with `Range` if it had one. */
  readonly log: string[] = [];
  readonly blobs = new Map<string, Buffer>();
  /** `name:reference` → manifest; one map for all repositories' digests. */
  readonly manifests = new Map<string, { type: string; data: Buffer }>();
  /** Asked first for every request; true when it has answered. */
  handler: Handler = () => false;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(): Promise<FakeRegistry> {
    const server = createServer();
    const registry = new FakeRegistry(server);
    server.on('request', (request, response) => registry.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  addBlob(data: Buffer): string {
    const digest = sha256(data);
    this.blobs.set(digest, data);
    return digest;
  }
  addManifest(name: string, tags: readonly string[], type: string, document: unknown): string {
    const data = Buffer.from(JSON.stringify(document));
    const digest = sha256(data);
    for (const reference of [digest, ...tags]) this.manifests.set(`${name}:${reference}`, { type, data });
    return digest;
  }

  /** `tars` bottom first; compressed by `compress` (gzip by default). */
  addImage(name: string, tags: readonly string[], tars: readonly Buffer[], options: { config?: object; compress?: (tar: Buffer) => Buffer } = {}): FakeImage {
    const compress = options.compress ?? ((tar) => gzipSync(tar));
    const diffIds = tars.map(sha256);
    const layers = tars.map((tar) => {
      const data = compress(tar);
      return { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: this.addBlob(data), size: data.length };
    });
    const document = { os: 'linux', architecture: 'amd64', config: {}, ...options.config, rootfs: { type: 'layers', diff_ids: diffIds } };
    const config = Buffer.from(JSON.stringify(document));
    const configDigest = this.addBlob(config);
    const manifestDigest = this.addManifest(name, tags, mediaTypes.ociManifest, {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: configDigest, size: config.length },
      layers,
    });
    return { configDigest, manifestDigest, layerDigests: layers.map(({ digest }) => digest), diffIds };
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '' } = request;
    this.log.push(`${method} ${url}${request.headers.range === undefined ? '' : ` ${request.headers.range}`}`);
    if (this.handler(request, response)) return;
    const match = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)/.exec(url);
    const [, name = '', kind, reference = ''] = match ?? [];
    const found = kind === 'manifests' ? this.manifests.get(`${name}:${reference}`) : undefined;
    const data = kind === 'blobs' ? this.blobs.get(reference) : found?.data;
    if (data === undefined) {
      const code = kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN';
      response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ errors: [{ code, message: 'unknown' }] }));
      return;
    }
    if (found !== undefined) response.setHeader('content-type', found.type).setHeader('docker-content-digest', sha256(found.data));
    sendRange(request, response, data);
  }

  count(pattern: RegExp): number {
    return this.log.filter((line) => pattern.test(line)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** The whole or the part that was asked for. */
export function sendRange(request: IncomingMessage, response: ServerResponse, data: Buffer): void {
  const part = startRange(request, response, data);
  response.end(request.method === 'HEAD' ? undefined : part);
}

/** Sends the headers of that; returns the body. */
export function startRange(request: IncomingMessage, response: ServerResponse, data: Buffer): Buffer {
  const [, from, to = ''] = /^bytes=([0-9]+)-([0-9]*)/.exec(request.headers.range ?? '') ?? [];
  const part = from === undefined ? data : data.subarray(Number(from), to === '' ? undefined : Number(to) + 1);
  if (from !== undefined) response.setHeader('content-range', `bytes ${from}-${Number(from) + part.length - 1}/${data.length}`);
  response.writeHead(from === undefined ? 200 : 206, { 'content-length': part.length });
  return part;
}
