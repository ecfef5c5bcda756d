/** Pulls that the daemon does not survive, and pulls that the disk has no room for: the next one succeeds, and nothing of the earlier ones stays. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { fileLayer, madeRegistry } from '../harness/made-images.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { privateDir } from '../harness/private.ts';
import { crictlFor, shell } from '../harness/shell.ts';
import { needs, systemProgram } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon');
const mebibyte = 1024 * 1024;
const layerBytes = 10 * mebibyte;

interface Kept {
  readonly unfinished: readonly string[];
  readonly blobs: number;
  readonly layers: number;
  readonly halfMade: readonly string[];
}
async function kept(root: string): Promise<Kept> {
  const layers = await readdir(path.join(root, 'layers'));
  return {
    unfinished: await readdir(path.join(root, 'images/ingest')),
    // A name with a dot is of a write that was cut off: some KiB, which a sweep takes after some minutes.
    blobs: (await readdir(path.join(root, 'images/blobs/sha256'))).filter((name) => !name.startsWith('.')).length,
    layers: layers.filter((name) => !name.startsWith('.')).length,
    halfMade: layers.filter((name) => name.startsWith('.')),
  };
}

test('kill -9 in the middle of a pull, again and again: what has come is not fetched twice, and nothing half made stays', what, () => nothingLeft(async () => {
  const layers = [1, 2, 3].map((index) => fileLayer(`file-${index}`, randomBytes(layerBytes)));
  await using registry = await madeRegistry([{ reference: 'killed.test/app:1', layers, compression: 'tar' }], { bytesPerSecond: 6_000_000 });
  await using node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts });
  await using crictl = await crictlFor(node.socket);
  for (const afterMs of [30, 300, 600, 900, 1200]) {
    const pulling = crictl.output(['pull', 'killed.test/app:1']);
    await sleep(afterMs);
    await node.kill();
    await pulling;
    await node.start();
    assert.deepEqual((await kept(node.root)).halfMade, []);
  }
  await crictl.run(['pull', 'killed.test/app:1']);
  assert.deepEqual(await kept(node.root), { unfinished: [], blobs: 2, layers: 3, halfMade: [] });
  const resumed = registry.requests.filter(({ path: asked, range }) => asked.includes('/blobs/') && range !== undefined && !range.startsWith('bytes=0-'));
  assert.ok(resumed.length > 0, 'goes on where it was');
  await crictl.run(['rmi', 'killed.test/app:1']);
  await eventually('the layers are gone', async () => (await kept(node.root)).layers === 0);
}));

/** A node whose root is a file system of its own, of which `resize` says the size. */
async function withSmallDisk(sizeMiB: number, writeHosts: (dir: string) => Promise<void>, body: (node: Nodelet, root: string, resize: (sizeMiB: number) => Promise<unknown>) => Promise<void>): Promise<void> {
  const place = await privateDir('e2e-disk');
  const root = path.join(place.dir, 'root');
  await mkdir(root);
  const mount = (options: string): Promise<unknown> => shell(systemProgram('mount'), ['-t', 'tmpfs', '-o', options, 'tmpfs', root]);
  try {
    await mount(`size=${sizeMiB}m,mode=711`);
    await using node = await startNodelet({ mode: 'cri', writeHosts, config: { rootDir: root } });
    await body(node, root, (newMiB) => mount(`remount,size=${newMiB}m`));
  } finally {
    await place.remove();
  }
}

const usedKiB = async (root: string): Promise<number> => Number((await shell('/usr/bin/du', ['-sk', root])).split('\t')[0]);

for (const [when, image, needsMiB] of [
  ['downloading', { compression: 'tar', layers: [1, 2, 3].map((index) => fileLayer(`file-${index}`, randomBytes(layerBytes))) }, 100],
  ['unpacking', { compression: 'gzip', layers: [fileLayer('big', Buffer.alloc(4 * layerBytes, 'not zeros, which would take no room'))] }, 100],
] as const) {
  test(`a disk that is full when ${when} is said so; the room is given back, other pulls go on, and this one succeeds when there is room`, what, () => nothingLeft(async () => {
    const small = { reference: 'full.test/small:1', layers: [fileLayer('f', randomBytes(mebibyte))] };
    await using registry = await madeRegistry([{ reference: 'full.test/big:1', ...image }, small]);
    await withSmallDisk(16, registry.writeHosts, async (node, root, resize) => {
      await using crictl = await crictlFor(node.socket);
      const before = await usedKiB(root);
      const { exitCode, stderr } = await crictl.output(['pull', 'full.test/big:1']);
      assert.notEqual(exitCode, 0);
      assert.match(stderr, /code = ResourceExhausted .*full\.test\/big:1: .*no space left on the disk/);
      // The manifest, the configuration and the names stay: a few files of some KiB.
      await eventually('the room is given back', () => usedKiB(root), (used) => used - before < 100);
      assert.deepEqual(await kept(root).then(({ unfinished, layers, halfMade }) => ({ unfinished, layers, halfMade })), { unfinished: [], layers: 0, halfMade: [] });
      await crictl.run(['pull', 'full.test/small:1']);
      await resize(needsMiB);
      await crictl.run(['pull', 'full.test/big:1']);
      assert.deepEqual((await kept(root)).unfinished, []);
    });
  }));
}
