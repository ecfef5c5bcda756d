/** The test registry serves what the layout holds, asks for credentials and misbehaves on request. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Layer } from './images/layer.ts';
import { Layout } from './images/layout.ts';
import { startRegistry, type Registry, type RegistryOptions } from './registry.ts';

const digest = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

async function withRegistry(options: Omit<RegistryOptions, 'layouts'>, body: (registry: Registry, url: string, dir: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(path.join(tmpdir(), 'registry-'));
  try {
    const layout = new Layout(dir);
    layout.image(['example.com/team/app:1'], [new Layer().file('a', 'x'.repeat(5000)).bytes()], {}, { compression: 'tar', index: false });
    layout.finish();
    await using registry = await startRegistry({ layouts: [dir], ...options });
    await body(registry, `http://${registry.address}/v2/team/app`, dir);
  } finally { rmSync(dir, { recursive: true }); }
}

const layerOf = async (url: string, init: RequestInit = {}): Promise<string> =>
  ((await (await fetch(`${url}/manifests/1`, init)).json()) as { layers: { digest: string }[] }).layers[0]?.digest ?? '';

test('a manifest comes by tag and by digest, a blob whole and in part', () => withRegistry({}, async (_registry, url) => {
  const byTag = await fetch(`${url}/manifests/1`);
  const body = Buffer.from(await byTag.arrayBuffer());
  assert.equal(byTag.headers.get('docker-content-digest'), digest(body));
  assert.deepEqual(Buffer.from(await (await fetch(`${url}/manifests/${digest(body)}`)).arrayBuffer()), body);
  const layer = await layerOf(url);
  const whole = Buffer.from(await (await fetch(`${url}/blobs/${layer}`)).arrayBuffer());
  assert.equal(digest(whole), layer);
  const part = await fetch(`${url}/blobs/${layer}`, { headers: { range: 'bytes=600-' } });
  assert.equal(part.status, 206);
  assert.deepEqual(Buffer.from(await part.arrayBuffer()), whole.subarray(600));
  assert.equal((await fetch(`${url}/manifests/2`)).status, 404);
}));

test('with token auth a client must fetch a token with its password first', () => withRegistry({ auth: { kind: 'token', username: 'u', password: 'p' } }, async (_registry, url) => {
  const challenge = (await fetch(`${url}/manifests/1`)).headers.get('www-authenticate') ?? '';
  const [, realm = '', scope] = /^Bearer realm="([^"]+)",service="e2e",scope="([^"]+)"$/.exec(challenge) ?? [];
  assert.equal(scope, 'repository:team/app:pull');
  assert.equal((await fetch(realm)).status, 401);
  const { token } = (await (await fetch(realm, { headers: { authorization: `Basic ${btoa('u:p')}` } })).json()) as { token: string };
  assert.match(await layerOf(url, { headers: { authorization: `Bearer ${token}` } }), /^sha256:/);
}));

test('with basic auth a wrong password is refused', () => withRegistry({ auth: { kind: 'basic', username: 'u', password: 'p' } }, async (_registry, url) => {
  assert.equal((await fetch(`${url}/manifests/1`, { headers: { authorization: `Basic ${btoa('u:x')}` } })).status, 401);
  assert.equal((await fetch(`${url}/manifests/1`, { headers: { authorization: `Basic ${btoa('u:p')}` } })).status, 200);
}));

test('trouble meets as many requests as it was told, and then all is well', () => withRegistry({}, async (registry, url) => {
  const blob = `${url}/blobs/${await layerOf(url)}`;
  registry.trouble({ behave: 'too-many-requests', kind: 'blobs', times: 1 });
  const refused = await fetch(blob);
  assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1']);
  registry.trouble({ behave: 'truncate', kind: 'blobs', times: 1 });
  await assert.rejects(async () => (await fetch(blob)).arrayBuffer());
  registry.trouble({ behave: 'wrong-digest', kind: 'blobs', times: 1 });
  assert.notEqual(digest(Buffer.from(await (await fetch(blob)).arrayBuffer())), blob.slice(-71));
  registry.trouble({ behave: 'stall', kind: 'blobs', times: 1 });
  await assert.rejects(async () => (await fetch(blob, { signal: AbortSignal.timeout(300) })).arrayBuffer(), { name: 'TimeoutError' });
  assert.equal(digest(Buffer.from(await (await fetch(blob)).arrayBuffer())), blob.slice(-71));
}));

test('host files send every host of the images here, and nowhere else', () => withRegistry({}, async (registry, _url, dir) => {
  await registry.writeHosts(path.join(dir, 'certs.d'), ['docker.io']);
  for (const host of ['example.com', 'docker.io']) {
    assert.equal(readFileSync(path.join(dir, 'certs.d', host, 'hosts.toml'), 'utf8'),
      `server = "http://${registry.address}"\n\n[host."http://${registry.address}"]\n  capabilities = ["pull", "resolve"]\n`);
  }
}));
