/** Manifests and indexes from strangers, and which of an index is ours. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseManifest, mediaTypes, parseImageConfig, parseManifest, type Descriptor } from './manifest.ts';
import { hostPlatform, platformRank, type Platform } from './platform.ts';
import type { Digest } from './digest.ts';

const digest = (character: string): Digest => `sha256:${character.repeat(64)}` as Digest;
const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const descriptor = (mediaType: string, character = 'a', extra: object = {}): object => ({ mediaType, digest: digest(character), size: 3, ...extra });
const layer = descriptor('application/vnd.oci.image.layer.v1.tar+gzip', 'b');
const manifest = { schemaVersion: 2, config: descriptor(mediaTypes.ociConfig), layers: [layer] };

test('a manifest without a media type of its own is one because of its config', () => {
  const parsed = parseManifest(bytes(manifest), '', 'm');
  assert.equal(parsed.kind, 'manifest');
  assert.equal(parsed.kind === 'manifest' && parsed.manifest.layers[0]?.digest, digest('b'));
});
test('the media type header may carry parameters', () => {
  const index = { schemaVersion: 2, manifests: [] };
  assert.equal(parseManifest(bytes(index), `${mediaTypes.ociIndex}; charset=utf-8`, 'm').kind, 'index');
});

test('what a web server says that knows nothing of images counts for nothing', () => {
  for (const type of ['application/json', 'text/plain', 'application/octet-stream']) {
    assert.equal(parseManifest(bytes({ schemaVersion: 2, manifests: [] }), type, 'm').kind, 'index');
    assert.equal(parseManifest(bytes(manifest), type, 'm').kind, 'manifest');
  }
});
test('a layer that may not be distributed is taken where it is in the registry', () => {
  const layers = [descriptor('application/vnd.oci.image.layer.nondistributable.v1.tar+gzip')];
  assert.equal(parseManifest(bytes({ ...manifest, layers }), '', 'm').kind, 'manifest');
});

const bad: readonly (readonly [name: string, document: unknown, message: RegExp])[] = [
  ['schema 1', { schemaVersion: 1, fsLayers: [] }, /docker schema 1/],
  ['an index with a config', { ...manifest, manifests: [] }, /ambiguous/],
  ['an index that calls itself a manifest', { mediaType: mediaTypes.ociManifest, manifests: [] }, /calls itself .* but is an index/],
  ['an artifact', { schemaVersion: 2, config: descriptor('application/vnd.cncf.helm.config.v1+json'), layers: [] }, /artifact of type application\/vnd\.cncf\.helm/],
  ['an encrypted layer', { ...manifest, layers: [descriptor('application/vnd.oci.image.layer.v1.tar+gzip+encrypted')] }, /layers\[0\] is encrypted/],
  ['a layer that is elsewhere', { ...manifest, layers: [descriptor('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'a', { urls: ['https://m'] })] }, /layers\[0\] is a foreign layer/],
  ['an artifact with an empty config', { ...manifest, artifactType: 'application/x', config: descriptor('application/vnd.oci.empty.v1+json') }, /artifact of type application\/x/],
  ['a layer with a short digest', { ...manifest, layers: [{ mediaType: 'x', digest: 'sha256:ab', size: 1 }] }, /layers\[0\]\.digest: "sha256:ab" is not a digest/],
  ['a layer of negative size', { ...manifest, layers: [{ mediaType: 'x', digest: digest('a'), size: -1 }] }, /layers\[0\]: size/],
  ['too many layers', { ...manifest, layers: Array.from({ length: 501 }, () => layer) }, /more than 500 layers/],
  ['a list', [], /is not a JSON object/],
  ['nothing known', {}, /neither a manifest nor an index/],
];
for (const [name, document, message] of bad) test(`${name} is refused`, () => assert.throws(() => parseManifest(bytes(document), '', 'm'), message));
test('what is no JSON is refused', () => assert.throws(() => parseManifest(Buffer.from('<html>'), '', 'm'), /is not JSON/));

const entry = (character: string, platform: Platform | undefined): Descriptor => ({ mediaType: mediaTypes.ociManifest, digest: digest(character), sizeBytes: 1, platform, annotations: {} });
const platforms: readonly (readonly [name: string, host: string, offered: readonly (Platform | undefined)[], want: number | undefined])[] = [
  ['the exact architecture', 'x64', [{ os: 'linux', architecture: 'arm64' }, { os: 'linux', architecture: 'amd64' }], 1],
  ['plain amd64 before a microarchitecture', 'x64', [{ os: 'linux', architecture: 'amd64', variant: 'v3' }, { os: 'linux', architecture: 'amd64' }], 1],
  ['arm64 without its implied v8', 'arm64', [{ os: 'linux', architecture: 'arm', variant: 'v7' }, { os: 'linux', architecture: 'arm64' }], 1],
  ['the newest arm that runs', 'arm', [{ os: 'linux', architecture: 'arm', variant: 'v6' }, { os: 'linux', architecture: 'arm', variant: 'v7' }, { os: 'linux', architecture: 'arm', variant: 'v8' }], 1],
  ['no other system', 'x64', [{ os: 'windows', architecture: 'amd64' }, { os: 'unknown', architecture: 'unknown' }], undefined],
  ['the only one that says nothing', 'x64', [undefined, { os: 'unknown', architecture: 'unknown' }], 0],
];
for (const [name, host, offered, want] of platforms) {
  test(`from an index: ${name}`, () => {
    const entries = offered.map((platform, index) => entry(String(index), platform));
    if (want === undefined) {
      assert.throws(() => chooseManifest(entries, hostPlatform(host), 'index x'), /index x: no image for linux\/amd64; it has windows\/amd64/);
    }
    else assert.equal(chooseManifest(entries, hostPlatform(host), 'index x'), entries[want]);
  });
}
test('spellings of one platform are one', () => assert.equal(platformRank({ os: 'linux', architecture: 'aarch64' }, hostPlatform('arm64')), 0));

test('a configuration with another number of diff ids than layers is refused', () => {
  assert.throws(() => parseImageConfig(bytes({ rootfs: { diff_ids: [digest('a')] } }), 2, 'configuration c'), /has 1 diff ids for 2 layers/);
});
test("Go's null for an empty list or map is taken as empty", () => {
  const { run } = parseImageConfig(bytes({ config: { Env: null, Cmd: null, Labels: null, Volumes: null }, rootfs: { diff_ids: null } }), 0, 'c');
  assert.deepEqual([run.env, run.cmd, run.labels, run.volumes], [[], [], {}, []]);
});
test('what a container is made from is read from the configuration', () => {
  const config = { User: '1000', Env: ['A=b'], Entrypoint: ['/e'], Cmd: ['c'], WorkingDir: '/w', Volumes: { '/v': {} }, StopSignal: 'SIGINT', Labels: { l: 'm' }, ExposedPorts: { '80/tcp': {} } };
  assert.deepEqual(parseImageConfig(bytes({ os: 'linux', architecture: 'amd64', config, rootfs: { diff_ids: [] } }), 0, 'c').run, {
    user: '1000', env: ['A=b'], entrypoint: ['/e'], cmd: ['c'], workingDir: '/w', volumes: ['/v'], stopSignal: 'SIGINT', labels: { l: 'm' }, exposedPorts: ['80/tcp'], os: 'linux', architecture: 'amd64',
  });
});
