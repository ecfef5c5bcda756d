/** The image generator: archives that tar reads, digests that do not depend on the machine. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { critestImageDigest } from '../judges/pins.ts';
import { Layer } from './layer.ts';
import { blobPath, Layout, readLayout } from './layout.ts';
import { addDigestImage } from './sets.ts';

function inLayout(body: (dir: string) => void): void {
  const dir = mkdtempSync(path.join(tmpdir(), 'layout-'));
  try { body(dir); } finally { rmSync(dir, { recursive: true }); }
}

test('tar reads a layer: folders, files with owners, hard and symbolic links', () => {
  const archive = new Layer().dir('d', 0o1777).file('d/f', 'hello', 0o4755, { uid: 7, gid: 8 }).hardlink('d/h', 'd/f').symlink('d/s', 'f').bytes();
  const lines = execFileSync('tar', ['--numeric-owner', '--utc', '-tvf', '-'], { input: archive }).toString().trimEnd().split('\n').map((line) => line.replaceAll(/ +/g, ' '));
  assert.deepEqual(lines, [
    'drwxrwxrwt 0/0 0 2024-01-01 00:00 d/', '-rwsr-xr-x 7/8 5 2024-01-01 00:00 d/f', 'hrwxr-xr-x 0/0 0 2024-01-01 00:00 d/h link to d/f', 'lrwxrwxrwx 0/0 0 2024-01-01 00:00 d/s -> f',
  ]);
});

test('the image that critest pulls by digest has the digest that critest is built with', { skip: process.arch === 'x64' ? false : 'the digest names amd64' }, () => {
  inLayout((dir) => { assert.equal(addDigestImage(new Layout(dir)), critestImageDigest); });
});

test('an index leads with another architecture, and references keep their hosts and tags', () => {
  inLayout((dir) => {
    const layout = new Layout(dir);
    const top = layout.image(['a.example/x/y:1', 'b.example:5000/y:2'], [new Layer().file('f', '').bytes()], { Cmd: ['sh'] });
    layout.finish();
    assert.deepEqual(readLayout(dir).map(({ host, repository, tag, descriptor }) => [host, repository, tag, descriptor.digest]),
      [['a.example', 'x/y', '1', top], ['b.example:5000', 'y', '2', top]]);
    const { manifests } = JSON.parse(readFileSync(blobPath(dir, top), 'utf8')) as { manifests: { platform: { architecture: string } }[] };
    assert.equal(manifests.length, 2);
    assert.notEqual(manifests[0]?.platform.architecture, manifests[1]?.platform.architecture);
  });
});
