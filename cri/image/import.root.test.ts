/** Import: OCI layouts and docker archives, as directories and tars, with and without names, and what is wrong with the bad ones. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { explain, isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { Images } from './images.ts';
import { mediaTypes } from './manifest.ts';
import { makeTar, type TarItem } from './tar-writer.fake.ts';

const ctx = quietCtx();
const digestOf = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;
const layerTar = makeTar([{ name: 'hello', content: 'hello' }]);

interface Stage extends AsyncDisposable {
  readonly dir: string;
  readonly images: Images;
  open(): Promise<Images>;
}
async function stage(): Promise<Stage> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-import-'));
  const open = (): Promise<Images> => Images.open(ctx, { imagesDir: join(dir, 'images'), layersDir: join(dir, 'layers'), certsDir: join(dir, 'certs') });
  const images = await open();
  return {
    dir,
    images,
    open,
    [Symbol.asyncDispose]: async () => {
      await images.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

type Files = Record<string, Buffer>;
const asJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

function layout(annotations: readonly Record<string, string>[], layer = gzipSync(layerTar)): Files {
  const config = asJson({ os: 'linux', architecture: 'amd64', config: { Cmd: ['/hello'] }, rootfs: { diff_ids: [digestOf(layerTar)] } });
  const of = (mediaType: string, data: Buffer): object => ({ mediaType, digest: digestOf(data), size: data.length });
  const manifest = asJson({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, config: of(mediaTypes.ociConfig, config), layers: [of('application/vnd.oci.image.layer.v1.tar+gzip', layer)] });
  const blob = (data: Buffer): string => `blobs/sha256/${digestOf(data).slice(7)}`;
  return {
    'oci-layout': asJson({ imageLayoutVersion: '1.0.0' }),
    'index.json': asJson({ schemaVersion: 2, manifests: annotations.map((each) => ({ ...of(mediaTypes.ociManifest, manifest), annotations: each })) }),
    [blob(config)]: config,
    [blob(manifest)]: manifest,
    [blob(layer)]: layer,
  };
}
function dockerArchive(tags: readonly string[] | null): Files {
  const config = asJson({ os: 'linux', architecture: 'amd64', config: {}, rootfs: { diff_ids: [digestOf(layerTar)] } });
  return { 'abc.json': config, 'one/layer.tar': layerTar, 'manifest.json': asJson([{ Config: 'abc.json', RepoTags: tags, Layers: ['one/layer.tar'] }]) };
}
async function asDirectory(at: Stage, files: Files): Promise<string> {
  const path = await mkdtemp(join(at.dir, 'source-'));
  for (const [name, data] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeFile(join(path, name), data);
  }
  return path;
}
async function asTar(at: Stage, files: Files, compress = (tar: Buffer): Buffer => tar): Promise<string> {
  const path = join(at.dir, 'source.tar');
  await writeFile(path, compress(makeTar(Object.entries(files).map(([name, content]): TarItem => ({ name, content })))));
  return path;
}

const containerdName = 'io.containerd.image.name';
const refName = 'org.opencontainers.image.ref.name';
const sources: readonly (readonly [name: string, files: Files, tags: readonly string[]])[] = [
  ['an OCI layout by the name that containerd writes', layout([{ [containerdName]: 'example.com/app:1', [refName]: '1' }]), ['example.com/app:1']],
  ['an OCI layout by its reference', layout([{ [refName]: 'busybox:1.37' }]), ['docker.io/library/busybox:1.37']],
  ['an OCI layout with two names for one image', layout([{ [refName]: 'a/b:1' }, { [refName]: 'a/b:2' }]), ['docker.io/a/b:1', 'docker.io/a/b:2']],
  ['a docker archive', dockerArchive(['example.com/app:1', 'app']), ['example.com/app:1', 'docker.io/library/app:latest']],
];
for (const [name, files, tags] of sources) {
  for (const [form, write] of [['directory', asDirectory], ['tar', asTar], ['compressed tar', (at: Stage, all: Files) => asTar(at, all, gzipSync)]] as const) {
    test(`${name}, as a ${form}`, async () => {
      await using at = await stage();
      const records = await at.images.import(ctx, await write(at, files));
      assert.deepEqual(records.map(({ repoTags }) => repoTags), [tags]);
      const found = at.images.find(tags[0] ?? '') ?? assert.fail();
      assert.equal(await readFile(join(at.images.layers.directory(found.layers[0] ?? assert.fail()), 'hello'), 'utf8'), 'hello');
      assert.deepEqual(await readdir(join(at.dir, 'images/ingest')), []);
      assert.deepEqual((await at.images.import(ctx, await write(at, files))).map(({ id }) => id), [found.id], 'twice is fine');
    });
  }
}

test('an image without a full name is refused unless one is given', async () => {
  await using at = await stage();
  const bare = await asDirectory(at, layout([{ [refName]: 'latest' }]));
  await assert.rejects(at.images.import(ctx, bare), (error) => {
    assert.match(explain(error), new RegExp(`^import ${bare}: the image sha256:[0-9a-f]{64} has no name .*; give one with --name$`));
    return isFault(error, 'invalid');
  });
  const nameless = await asDirectory(at, dockerArchive(null));
  await assert.rejects(at.images.import(ctx, nameless), /^Fault: import/);
  assert.deepEqual((await at.images.import(ctx, bare, { name: 'mine:1' }))[0]?.repoTags, ['docker.io/library/mine:1']);
});

test('a server beside it sees the imported image without being told', async () => {
  await using at = await stage();
  const server = await at.open();
  await at.images.import(ctx, await asDirectory(at, layout([{ [refName]: 'busybox:1' }])));
  for (let tries = 0; server.find('busybox:1') === undefined && tries < 100; tries++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.notEqual(server.find('busybox:1'), undefined);
  await server.close();
});

const flipped = (files: Files, pattern: RegExp): Files =>
  Object.fromEntries(Object.entries(files).map(([name, data]) => [name, pattern.test(data.toString('latin1')) && name.startsWith('blobs/') ? Buffer.concat([data, Buffer.from(' ')]) : data]));
const bad: readonly (readonly [name: string, files: Files, message: RegExp])[] = [
  ['a directory of something else', { 'README.md': Buffer.from('x') }, /neither an OCI layout \(no index\.json\) nor a docker archive \(no manifest\.json\)/],
  ['a manifest that was changed', flipped(layout([{ [refName]: 'a:1' }]), /"layers"/), /blobs\/sha256\/[0-9a-f]{64}: wrong digest: expected/],
  ['a missing layer', Object.fromEntries(Object.entries(layout([{ [refName]: 'a:1' }])).filter(([, data]) => data[0] !== 0x1f)), /blobs\/sha256\/[0-9a-f]{64} is missing/],
  ['a name that is none', layout([{ [refName]: 'a/Upper:1' }]), /must be lower case/],
  ['an index without images', { 'index.json': asJson({ schemaVersion: 2, manifests: [] }) }, /lists no images/],
  ['a manifest.json of something else', { 'manifest.json': asJson({ name: 'app' }) }, /not that of a docker archive/],
  ['a layer that climbs out', (() => {
    const evil = makeTar([{ name: '../evil' }]);
    const config = asJson({ rootfs: { diff_ids: [digestOf(evil)] } });
    return { 'c.json': config, 'l.tar': evil, 'manifest.json': asJson([{ Config: 'c.json', RepoTags: ['a:1'], Layers: ['l.tar'] }]) };
  })(), /image docker\.io\/library\/a:1: layer sha256:.*contains "\.\."/],
];
for (const [name, files, message] of bad) {
  test(`${name} is refused`, async () => {
    await using at = await stage();
    await assert.rejects(at.images.import(ctx, await asDirectory(at, files)), (error) => {
      assert.match(explain(error), message);
      return true;
    });
    assert.deepEqual(at.images.list(), []);
    assert.deepEqual(await readdir(join(at.dir, 'layers')), []);
  });
}
test('a path that is not there is said so', async () => {
  await using at = await stage();
  await assert.rejects(at.images.import(ctx, join(at.dir, 'none')), (error) => /^import .*none: no such file or directory/.test(explain(error)));
});
test('links in an archive do not lead out of it', async () => {
  await using at = await stage();
  const path = await asDirectory(at, dockerArchive(['a:1']));
  await rm(join(path, 'abc.json'));
  await writeFile(join(at.dir, 'outside.json'), dockerArchive(['a:1'])['abc.json'] ?? '');
  await symlink('../outside.json', join(path, 'abc.json'));
  await assert.rejects(at.images.import(ctx, path), (error) => /abc\.json is missing/.test(explain(error)));
});
test('two imports at once: one of them is told to wait', async () => {
  await using at = await stage();
  const other = await at.open();
  const path = await asDirectory(at, layout([{ [refName]: 'a:1' }]));
  const results = await Promise.allSettled([at.images.import(ctx, path), other.import(ctx, path)]);
  assert.deepEqual(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  await other.close();
});
