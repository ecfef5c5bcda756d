/** Pull to mounted root, against a registry on loopback: everything between a reference and files, for real. */
import assert from 'node:assert/strict';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { Ctx } from '#host/ctx.ts';
import { explain, isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { prepareRootfs, removeRootfs, rootfsUsage } from '../snapshot/overlay.ts';
import { Images } from './images.ts';
import { mediaTypes } from './manifest.ts';
import { FakeRegistry } from './registry.fake.ts';
import { makeTar, type TarItem } from './tar-writer.fake.ts';

const ctx = quietCtx();

async function setUp(options: Partial<Parameters<typeof Images.open>[1]> = {}): Promise<{ images: Images; registry: FakeRegistry; dir: string } & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-images-'));
  const registry = await FakeRegistry.start();
  const images = await Images.open(ctx, { imagesDir: join(dir, 'images'), layersDir: join(dir, 'layers'), certsDir: join(dir, 'certs.d'), ...options });
  return {
    images,
    registry,
    dir,
    [Symbol.asyncDispose]: async () => {
      await images.close();
      await registry[Symbol.asyncDispose]();
      await removeRootfs(ctx, join(dir, 'container'));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

const base = makeTar([
  { name: 'etc/', flag: '5', mode: 0o755 },
  { name: 'etc/passwd', content: 'root:x:0:0::/:/bin/sh\n' },
  { name: 'etc/gone', content: 'x' },
  { name: 'tmp/', flag: '5', mode: 0o1777 },
  { name: 'opt/', flag: '5' },
  { name: 'opt/old', content: 'old' },
]);
const top = makeTar([
  { name: 'etc/.wh.gone' },
  { name: 'opt/', flag: '5' },
  { name: 'opt/.wh..wh..opq' },
  { name: 'opt/new', content: 'new' },
  { name: 'tmp/note', content: 'no entry for tmp in this layer' },
]);

test('an image is pulled, mounted with its whiteouts, and leaves nothing when it is removed', async () => {
  await using set = await setUp();
  const { images, registry, dir } = set;
  const image = registry.addImage('team/app', ['1.0'], [base, top], { config: { config: { User: '1003:1004', Env: ['A=b'] } } });
  const ref = `${registry.host}/team/app:1.0`;
  const { id } = await images.pull(ctx, { ref });
  assert.equal(id, image.configDigest);
  const record = images.find(ref);
  assert.deepEqual(record?.repoTags, [ref]);
  assert.deepEqual(record?.repoDigests, [`${registry.host}/team/app@${image.manifestDigest}`]);
  const { image: shown } = await images.status(id.slice(7, 20));
  assert.deepEqual([shown?.uid, shown?.username], [{ value: 1003n }, '']);
  assert.equal(images.list()[0]?.id, id);

  const container = join(dir, 'container');
  await mkdir(container);
  const { rootfs } = await prepareRootfs(ctx, { layers: images.layers }, { id: 'c1', dir: container, layers: record?.layers ?? [] });
  assert.deepEqual((await prepareRootfs(ctx, { layers: images.layers }, { id: 'c1', dir: container, layers: record?.layers ?? [] })).rootfs, rootfs);
  assert.deepEqual((await readdir(join(rootfs, 'etc'))).toSorted(), ['passwd']);
  assert.deepEqual(await readdir(join(rootfs, 'opt')), ['new']);
  assert.equal(await readFile(join(rootfs, 'tmp/note'), 'utf8'), 'no entry for tmp in this layer');
  assert.equal((await lstat(join(rootfs, 'tmp'))).mode & 0o7777, 0o1777, 'the directory keeps the mode that it has below');
  assert.ok((await rootfsUsage(ctx, container)).inodes >= 1);
  await removeRootfs(ctx, container);
  await removeRootfs(ctx, container);
  assert.deepEqual(await readdir(container), []);

  await images.remove(ctx, 'busybox');
  await images.remove(ctx, ref);
  assert.equal(images.find(id), undefined);
  await images.sweep(ctx, new Set(record?.layers));
  assert.equal((await readdir(join(dir, 'layers'))).length, 2, 'layers of containers stay');
  await images.sweep(ctx, new Set());
  assert.deepEqual(await readdir(join(dir, 'layers')), []);
});


/** Frames as zstd:chunked has them: several, and one to be skipped. */
const zstdFrames = (tar: Buffer): Buffer => {
  const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), Buffer.from('toc')]);
  return Buffer.concat([zstdCompressSync(tar.subarray(0, 700)), zstdCompressSync(tar.subarray(700)), skippable]);
};
const gzipMembers = (tar: Buffer): Buffer => Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))]);
for (const [name, compress] of [['zstd', zstdCompressSync], ['zstd-frames', zstdFrames], ['gzip-members', gzipMembers], ['plain', (tar: Buffer) => tar]] as const) {
  test(`a ${name} layer is unpacked`, async () => {
    await using set = await setUp();
    set.registry.addImage(name, ['latest'], [base], { compress });
    await set.images.pull(ctx, { ref: `${set.registry.host}/${name}` });
    const [layer] = set.images.records()[0]?.layers ?? [];
    assert.equal(await readFile(join(set.images.layers.directory(layer ?? assert.fail()), 'opt/old'), 'utf8'), 'old');
  });
}

test('an image is found by every name it has, with the same answer', async () => {
  await using set = await setUp();
  const { images, registry } = set;
  const { configDigest: id, manifestDigest } = registry.addImage('app', ['1', 'latest'], [base]);
  const indexDigest = registry.addManifest('app', ['multi'], mediaTypes.ociIndex, {
    schemaVersion: 2,
    manifests: ['unknown', 'amd64', 'arm64'].map((architecture) => ({ mediaType: mediaTypes.ociManifest, digest: manifestDigest, size: 1, platform: { os: architecture === 'unknown' ? 'unknown' : 'linux', architecture } })),
  });
  const name = `${registry.host}/app`;
  for (const ref of [`${name}:1`, name, `${name}:multi`]) assert.equal((await images.pull(ctx, { ref })).id, id);
  const [shown, ...more] = images.list();
  assert.deepEqual(more, []);
  assert.deepEqual(shown?.repoTags, [`${name}:1`, `${name}:latest`, `${name}:multi`]);
  assert.deepEqual(shown.repoDigests, [`${name}@${manifestDigest}`, `${name}@${indexDigest}`], 'as pulled: for the index its own');
  for (const ref of [name, `${name}:1`, id, id.slice(7), id.slice(7, 11), ...shown.repoDigests]) assert.deepEqual((await images.status(ref)).image, shown, ref);
  for (const ref of ['busybox', 'UPPER', `${name}:2`, id.slice(7, 10), '0'.repeat(64)]) assert.equal((await images.status(ref)).image, undefined, ref);
  assert.match((await images.status(id, { verbose: true })).info['info'] ?? '', /"imageSpec":\{"os":"linux"/);
  assert.deepEqual(images.list(`${name}:1`), [shown]);
  await images.remove(ctx, `${name}:1`);
  assert.deepEqual(images.list(), []);
});

test('pulled by digest it has no tag, and a tag that moves leaves the old image its digest', async () => {
  await using set = await setUp();
  const { images, registry } = set;
  const old = registry.addImage('app', ['v'], [base]);
  const name = `${registry.host}/app`;
  await images.pull(ctx, { ref: `${name}:v@${old.manifestDigest}` });
  assert.deepEqual(images.list().map(({ repoTags, repoDigests }) => [repoTags, repoDigests]), [[[], [`${name}@${old.manifestDigest}`]]]);
  await images.pull(ctx, { ref: `${name}:v` });
  const young = registry.addImage('app', ['v'], [base, top]);
  await images.pull(ctx, { ref: `${name}:v` });
  assert.deepEqual(images.find(`${name}:v`)?.id, young.configDigest);
  assert.deepEqual(images.find(old.configDigest)?.repoTags, []);
});

test('pulling again asks for the digest only, and repairs an image that has lost a layer', async () => {
  await using set = await setUp();
  const { images, registry } = set;
  registry.addImage('app', ['v'], [base]);
  const ref = `${registry.host}/app:v`;
  await images.pull(ctx, { ref });
  registry.log.length = 0;
  await images.pull(ctx, { ref });
  assert.deepEqual(registry.log, ['HEAD /v2/app/manifests/v']);
  const layer = images.find(ref)?.layers[0] ?? assert.fail();
  await images.layers.remove(layer);
  await images.pull(ctx, { ref });
  assert.ok(images.layers.exists(layer));
});

test('five who want the same cause one download; one of them leaving does no harm', async () => {
  await using set = await setUp();
  const { images, registry } = set;
  registry.addImage('app', ['v'], [base, top]);
  const leaver = new AbortController();
  const contexts: Ctx[] = [{ ...ctx, signal: leaver.signal }, ctx, ctx, ctx, ctx];
  const pulls = contexts.map((each) => images.pull(each, { ref: `${registry.host}/app:v` }));
  leaver.abort(new DOMException('deadline', 'TimeoutError'));
  await assert.rejects(pulls[0] ?? assert.fail(), { name: 'TimeoutError' });
  await Promise.all(pulls.slice(1));
  assert.equal(registry.count(/^GET .*blobs/), 3);
  assert.equal(registry.count(/manifests/), 1);
});

test('two images with a layer in common fetch it once, even at the same time', async () => {
  await using set = await setUp();
  const { images, registry } = set;
  const a = registry.addImage('a', ['v'], [base, top]);
  registry.addImage('b', ['v'], [base], { config: { author: 'b' } });
  await Promise.all(['a', 'b'].map((name) => images.pull(ctx, { ref: `${registry.host}/${name}:v` })));
  assert.equal(registry.count(new RegExp(`blobs/${a.layerDigests[0]}`)), 1);
});

test('a pull that everybody left leaves nothing but what can be resumed', async () => {
  await using set = await setUp();
  const { images, registry, dir } = set;
  registry.addImage('app', ['v'], [base, top]);
  const stuck = Promise.withResolvers<void>();
  registry.handler = (request, response) => {
    if (!(request.url ?? '').includes('/blobs/') || registry.count(/blobs/) < 3) return false;
    response.writeHead(200).flushHeaders();
    stuck.resolve();
    return true;
  };
  const leaver = new AbortController();
  const pull = images.pull({ ...ctx, signal: leaver.signal }, { ref: `${registry.host}/app:v` });
  await stuck.promise;
  leaver.abort(new Error('left'));
  await assert.rejects(pull, /left/);
  registry.handler = () => false;
  assert.equal((await images.pull(ctx, { ref: `${registry.host}/app:v` })).id, images.find(`${registry.host}/app:v`)?.id);
  assert.deepEqual((await readdir(join(dir, 'layers'))).filter((name) => name.startsWith('.')), []);
  assert.deepEqual(await readdir(join(dir, 'images/ingest')), []);
  assert.equal((await readdir(join(dir, 'images/blobs/sha256'))).length, 2, 'manifest and configuration stay, layer blobs do not');
});

const broken: readonly (readonly [name: string, make: (registry: FakeRegistry) => void, message: RegExp])[] = [
  ['whose layer has another content than the configuration says', (registry) => {
    const { layerDigests } = registry.addImage('app', ['v'], [base]);
    const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { diff_ids: [`sha256:${'1'.repeat(64)}`] } }));
    const layer = layerDigests[0] ?? '';
    registry.addManifest('app', ['v'], mediaTypes.ociManifest, {
      schemaVersion: 2,
      config: { mediaType: mediaTypes.ociConfig, digest: registry.addBlob(config), size: config.length },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: layer, size: registry.blobs.get(layer)?.length }],
    });
  }, /layer sha256:[0-9a-f]+: wrong diff id: the configuration says sha256:1+, the layer's content is sha256:/],
  ['whose layer climbs out', (registry) => registry.addImage('app', ['v'], [makeTar([{ name: '../../evil', content: 'x' }])]), /layer entry "\.\.\/\.\.\/evil": its name contains "\.\."/],
  ['whose layer is cut off', (registry) => registry.addImage('app', ['v'], [makeTar([{ name: 'f', content: 'x'.repeat(2000) }]).subarray(0, 1000)]), /tar: unexpected end/],
  ['whose gzip is cut off', (registry) => registry.addImage('app', ['v'], [base], { compress: (tar) => gzipSync(tar).subarray(0, 100) }), /layer sha256:.*unexpected end of file/],
  ['whose layer is compressed with xz', (registry) => registry.addImage('app', ['v'], [base], { compress: () => Buffer.from('fd377a585a0000000000', 'hex') }), /xz, which is not supported/],
  ['with a hard link to nothing', (registry) => registry.addImage('app', ['v'], [base, makeTar([{ name: 'h', flag: '1', link: 'etc/none' }])]), /hard link h → etc\/none points at nothing/],
];
for (const [name, make, message] of broken) {
  test(`an image ${name} is refused, and nothing of it stays`, async () => {
    await using set = await setUp();
    make(set.registry);
    await assert.rejects(set.images.pull(ctx, { ref: `${set.registry.host}/app:v` }), (error) => {
      assert.match(explain(error), new RegExp(`^pull ${set.registry.host}/app:v: `));
      assert.match(explain(error), message);
      return isFault(error);
    });
    assert.deepEqual(set.images.list(), []);
    assert.ok((await readdir(join(set.dir, 'layers'))).length <= 1, 'at most the good layer below');
  });
}

test('a layer that needs what lies below is put right, through symlinks and links', async () => {
  await using set = await setUp();
  const below: TarItem[] = [{ name: 'usr/lib/', flag: '5', mode: 0o711 }, { name: 'lib', flag: '2', link: 'usr/lib' }, { name: 'usr/lib/libc', content: 'c' }];
  set.registry.addImage('app', ['v'], [makeTar(below), makeTar([{ name: 'lib/new', content: 'n' }, { name: 'copy', flag: '1', link: 'lib/libc' }]), makeTar([{ name: 'usr/lib/third', content: '3' }])]);
  const ref = `${set.registry.host}/app:v`;
  await set.images.pull(ctx, { ref });
  const container = join(set.dir, 'container');
  await mkdir(container);
  const { rootfs } = await prepareRootfs(ctx, { layers: set.images.layers }, { id: 'c', dir: container, layers: set.images.find(ref)?.layers ?? [] });
  assert.ok((await lstat(join(rootfs, 'lib'))).isSymbolicLink());
  assert.deepEqual((await readdir(join(rootfs, 'lib/'))).toSorted(), ['libc', 'new', 'third']);
  assert.equal((await lstat(join(rootfs, 'usr/lib'))).mode & 0o7777, 0o711);
  assert.equal(await readFile(join(rootfs, 'copy'), 'utf8'), 'c');
});

test('after a restart everything is there, half made things are gone, and damaged records do no harm', async () => {
  await using set = await setUp();
  const { images, registry, dir } = set;
  const good = registry.addImage('good', ['v'], [base]);
  const lost = registry.addImage('lost', ['v'], [makeTar([{ name: 'x' }])]);
  for (const name of ['good', 'lost']) await images.pull(ctx, { ref: `${registry.host}/${name}:v` });
  const [layer] = images.find(lost.configDigest)?.layers ?? [];
  await images.layers.remove(layer ?? assert.fail());
  await mkdir(join(dir, 'layers/.tmp-half/etc'), { recursive: true });
  await writeFile(join(dir, 'images/records', `${'a'.repeat(64)}.json`), '{"version": 1, "id": "sha2');
  await writeFile(join(dir, 'images/records', `${'b'.repeat(64)}.json`), '{"version": 2}');
  const again = await Images.open(ctx, { imagesDir: join(dir, 'images'), layersDir: join(dir, 'layers'), certsDir: join(dir, 'certs.d') });
  assert.deepEqual(again.list().map(({ id }) => id), [good.configDigest]);
  assert.deepEqual((await readdir(join(dir, 'layers'))).length, 1);
  await again.close();
});

test('ImageFsInfo counts a shared layer once', async () => {
  await using set = await setUp({ pinned: [] });
  const { images, registry } = set;
  registry.addImage('a', ['v'], [base]);
  registry.addImage('b', ['v'], [base], { config: { author: 'b' } });
  await images.pull(ctx, { ref: `${registry.host}/a:v` });
  const { imageFilesystems: [one] } = await images.fsInfo();
  await images.pull(ctx, { ref: `${registry.host}/b:v` });
  const { imageFilesystems: [two] } = await images.fsInfo();
  assert.ok((one?.usedBytes?.value ?? 0n) > 0n);
  assert.deepEqual([two?.usedBytes, two?.inodesUsed, two?.fsId?.mountpoint], [one?.usedBytes, one?.inodesUsed, images.layers.root]);
});

test('a pinned reference says so', async () => {
  await using registry = await FakeRegistry.start();
  registry.addImage('pause', ['3'], []);
  await using set = await setUp({ pinned: [`${registry.host}/pause:3`] });
  await set.images.pull(ctx, { ref: `${registry.host}/pause:3` });
  assert.equal(set.images.list()[0]?.pinned, true);
});
