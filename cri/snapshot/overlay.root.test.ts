/** Snapshots as the kernel mounts them: many layers, one, none; twice; read-only; and what is left afterwards. */
import assert from 'node:assert/strict';
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import { mountsBelow } from '#host/mountinfo.ts';
import { overlayByOptions, unmount } from '#host/mount.ts';
import { chainIds, type ChainId } from './chain-id.ts';
import { Layers } from './layers.ts';
import { prepareRootfs, removeRootfs, rootfsUsage } from './overlay.ts';

const ctx = quietCtx();

interface Stage extends AsyncDisposable {
  readonly dir: string;
  readonly layers: Layers;
  /** Layers bottom first, each with a file of its own and one that all have. */
  make(count: number): Promise<ChainId[]>;
}
async function stage(): Promise<Stage> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-overlay-'));
  const layers = await Layers.open(join(dir, 'layers'));
  await mkdir(join(dir, 'c'));
  return {
    dir,
    layers,
    make: async (count) => {
      const chain = chainIds(Array.from({ length: count }, (_, index) => `sha256:${String(index).padStart(64, '0')}`));
      for (const [index, chainId] of chain.entries()) {
        await using temporary = await layers.temporary();
        await writeFile(join(temporary.path, `file${index}`), '');
        await writeFile(join(temporary.path, 'all'), String(index));
        await layers.commit(chainId, temporary);
      }
      return chain;
    },
    [Symbol.asyncDispose]: async () => {
      await removeRootfs(ctx, join(dir, 'c'));
      assert.deepEqual(await mountsBelow(dir), []);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

for (const count of [1, 2, 120]) {
  test(`a container can write over ${count} layers, and the upmost wins`, async () => {
    await using at = await stage();
    const dir = join(at.dir, 'c');
    const { rootfs } = await prepareRootfs(ctx, at, { id: 'c', dir, layers: await at.make(count) });
    assert.equal((await readdir(rootfs)).length, count + 1);
    assert.equal(await readFile(join(rootfs, 'all'), 'utf8'), String(count - 1));
    await writeFile(join(rootfs, 'all'), 'x'.repeat(10_000));
    assert.ok((await rootfsUsage(ctx, dir)).usedBytes >= 10_000);
    assert.equal((await mountsBelow(rootfs)).length, 1);
    await prepareRootfs(ctx, at, { id: 'c', dir, layers: await at.make(0) });
    assert.equal((await mountsBelow(rootfs)).length, 1, 'the second time mounts nothing');
  });
}

test('a snapshot that was unmounted in the middle of life is mounted again with what was written', async () => {
  await using at = await stage();
  const request = { id: 'c', dir: join(at.dir, 'c'), layers: await at.make(2) };
  const { rootfs } = await prepareRootfs(ctx, at, request);
  await writeFile(join(rootfs, 'written'), 'here');
  await unmount(rootfs, { lazy: true });
  await prepareRootfs(ctx, at, request);
  assert.equal(await readFile(join(rootfs, 'written'), 'utf8'), 'here');
});

for (const count of [0, 1, 3]) {
  test(`an image volume of ${count} layers cannot be written`, async () => {
    await using at = await stage();
    const request = { id: 'v', dir: join(at.dir, 'c'), layers: await at.make(count), readonly: true };
    const { rootfs } = await prepareRootfs(ctx, at, request);
    await prepareRootfs(ctx, at, request);
    assert.equal((await mountsBelow(rootfs)).length, 1);
    await assert.rejects(writeFile(join(rootfs, 'new'), ''), { code: 'EROFS' });
    assert.equal((await readdir(rootfs)).length, count === 0 ? 0 : count + 1);
  });
}

test('an image without layers gives an empty root that can be written', async () => {
  await using at = await stage();
  const { rootfs } = await prepareRootfs(ctx, at, { id: 'c', dir: join(at.dir, 'c'), layers: [] });
  await writeFile(join(rootfs, 'new'), '');
  assert.deepEqual(await readdir(rootfs), ['new']);
});

test('the root of the container has the owner and mode of the topmost layer that says so', async () => {
  await using at = await stage();
  const chain = await at.make(3);
  const middle = at.layers.directory(chain[1] ?? ('' as ChainId));
  await chown(middle, 7, 8);
  await chmod(middle, 0o1711);
  const { rootfs } = await prepareRootfs(ctx, at, { id: 'c', dir: join(at.dir, 'c'), layers: chain });
  const { uid, gid, mode } = await lstat(rootfs);
  assert.deepEqual([uid, gid, mode & 0o7777], [7, 8, 0o1711]);
});

test('a layer that is gone is named', async () => {
  await using at = await stage();
  const [layer] = await at.make(1);
  await at.layers.remove(layer ?? ('' as ChainId));
  await assert.rejects(prepareRootfs(ctx, at, { id: 'c1', dir: join(at.dir, 'c'), layers: layer === undefined ? [] : [layer] }), /root of c1: layer sha256:0+ is not here any more/);
});

test('an older kernel gets more layers than a page of options can name', async () => {
  await using at = await stage();
  const chain = await at.make(120);
  const target = join(at.dir, 'c', 'rootfs');
  await mkdir(target);
  await overlayByOptions({ target, lower: chain.map((layer) => at.layers.directory(layer)).toReversed() });
  assert.equal((await readdir(target)).length, 121);
});

test('what a dead process left half made is swept, what a living one makes is not', async () => {
  await using at = await stage();
  await using mine = await at.layers.temporary();
  await mkdir(join(at.layers.root, '.tmp-dead/x'), { recursive: true });
  await at.layers.sweepTemporary();
  assert.deepEqual(await readdir(at.layers.root), [mine.path.slice(at.layers.root.length + 1)]);
});
