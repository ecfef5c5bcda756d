/** Pull to mounted root, against a registry on loopback: everything between a reference and files, for real. */
import assert from 'node:assert/strict';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { quietCtx } from '#host/log.ts';
import { prepareRootfs, removeRootfs, rootfsUsage } from '../snapshot/overlay.ts';
import { Images } from './images.ts';
import { FakeRegistry } from './registry.fake.ts';
import { makeTar } from './tar-writer.fake.ts';

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

test('zstd layers and uncompressed layers are unpacked too', async () => {
  await using set = await setUp();
  for (const [name, compress] of [['zstd', zstdCompressSync], ['plain', (tar: Buffer) => tar]] as const) {
    set.registry.addImage(name, ['latest'], [base], { compress, config: { author: name } });
    await set.images.pull(ctx, { ref: `${set.registry.host}/${name}` });
  }
  assert.equal(set.images.records().length, 2);
});
