/** A registry just good enough to pull from: serves OCI layouts read-only on loopback, for every server under the same names. */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Registry {
  /** Full references that can be pulled. */
  readonly references: readonly string[];
  /** Tells a server by host files in containerd's format where the images really are. */
  writeHosts(certsDir: string): Promise<void>;
  close(): Promise<void>;
}

const split = (reference: string): { host: string; name: string; tag: string } => {
  const [, host = '', name = '', tag = ''] = /^([^/]+)\/(.+):([^:/]+)$/.exec(reference) ?? [];
  return { host, name, tag };
};

export async function serveLayouts(layouts: readonly string[]): Promise<Registry> {
  const tags = new Map<string, Descriptor>();
  const references: string[] = [];
  for (const layout of layouts) {
    const index = JSON.parse(readFileSync(path.join(layout, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
    for (const descriptor of index.manifests) {
      const reference = descriptor.annotations?.['org.opencontainers.image.ref.name'];
      if (reference === undefined) continue;
      const { name, tag } = split(reference);
      references.push(reference);
      tags.set(`${name}:${tag}`, descriptor);
    }
  }
  const blob = (digest: string): string | undefined => layouts.map((layout) => path.join(layout, 'blobs', digest.replace(':', '/'))).find((file) => existsSync(file));
  const server = createServer((request, response) => {
    const answered = answer(request.url ?? '', response, { tags, blob, head: request.method === 'HEAD' });
    if (!answered) response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    references,
    writeHosts: async (certsDir) => {
      for (const host of new Set(references.map((reference) => split(reference).host))) {
        await mkdir(path.join(certsDir, host), { recursive: true });
        await writeFile(path.join(certsDir, host, 'hosts.toml'), `server = "${url}"\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n`);
      }
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Store {
  readonly tags: ReadonlyMap<string, Descriptor>;
  readonly blob: (digest: string) => string | undefined;
  readonly head: boolean;
}

function answer(url: string, response: ServerResponse, { tags, blob, head }: Store): boolean {
  const pathname = url.split('?')[0] ?? '';
  if (/^\/v2\/?$/.test(pathname)) return response.writeHead(200).end('{}'), true;
  const [, name, kind, wanted = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(pathname) ?? [];
  const digest = wanted.startsWith('sha256:') ? wanted : tags.get(`${name}:${wanted}`)?.digest;
  const file = digest === undefined ? undefined : blob(digest);
  if (digest === undefined || file === undefined) return false;
  const mediaType = kind === 'manifests' ? (JSON.parse(readFileSync(file, 'utf8')) as { mediaType?: string }).mediaType : undefined;
  response.writeHead(200, { 'content-type': mediaType ?? 'application/octet-stream', 'content-length': statSync(file).size, 'docker-content-digest': digest });
  if (head) response.end();
  else createReadStream(file).pipe(response);
  return true;
}
