/** Layers on disk: what an entry becomes, and that nothing ever lands outside, whatever the layer tries. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Directory } from '#host/directory.ts';
import { isErrno } from '#host/errno.ts';
import { LayerApplier, type Applied, type ApplyOptions } from './layer-apply.ts';
import { settleLayer } from './layer-settle.ts';
import { lookUpLower } from './lower-view.ts';
import { makeTar, type TarItem } from './tar-writer.fake.ts';
import { TarReader } from './tar.ts';

interface Place extends Disposable {
  /** Where the layer is made; beside it lies what must stay as it is. */
  readonly root: string;
  readonly outside: string;
  /** Another layer directory. */
  layer(name: string): string;
}
function place(): Place {
  const dir = mkdtempSync(join(tmpdir(), 'nodelet-apply-'));
  const layer = (name: string): string => {
    mkdirSync(join(dir, name));
    return join(dir, name);
  };
  const outside = layer('outside');
  writeFileSync(join(outside, 'secret'), 'secret');
  return { root: layer('root'), outside, layer, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

function apply(root: string, items: readonly TarItem[], options: Omit<ApplyOptions, 'root'> = {}): Applied {
  using applier = new LayerApplier({ root, ...options });
  const reader = new TarReader(applier);
  reader.push(makeTar(items));
  reader.end();
  return applier.finish();
}
function xattr(path: string, name: string): string | undefined {
  using directory = Directory.open(join(path, '..'));
  const value = directory.getXattr(path.slice(path.lastIndexOf('/') + 1), name);
  return value === undefined ? undefined : Buffer.from(value).toString('latin1');
}
const isWhiteout = (path: string): boolean => {
  const stats = lstatSync(path);
  return stats.isCharacterDevice() && stats.rdev === 0;
};

test('entries become files with owners, modes, times and attributes', () => {
  using at = place();
  apply(at.root, [
    { name: './', flag: '5', mode: 0o711, mtime: 5 },
    { name: 'bin/', flag: '5', mode: 0o1775, uid: 3, gid: 4, mtime: 1000 },
    { name: 'bin/su', content: 'elf', mode: 0o6755, uid: 1, gid: 2, pax: { mtime: '1350244992.5', 'SCHILY.xattr.user.note': 'hi', 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.security.selinux': 'label' } },
    { name: 'bin/ping', content: 'elf', uid: 5, pax: { 'SCHILY.xattr.security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex') } },
    { name: 'bin/link', flag: '2', link: '/etc/passwd', uid: 9 },
    { name: 'bin/again', flag: '1', link: 'bin/su' },
    { name: 'bin/fifo', flag: '6', mode: 0o600 },
    { name: 'bin/null', flag: '3', mode: 0o666, major: 1, minor: 3 },
    { name: 'bin/disk', flag: '4', mode: 0o660, major: 259, minor: 300 },
  ]);
  const su = lstatSync(join(at.root, 'bin/su'));
  assert.deepEqual([su.mode & 0o7777, su.uid, su.gid, su.mtimeMs, su.nlink], [0o6755, 1, 2, 1_350_244_992_500, 2]);
  assert.deepEqual([xattr(join(at.root, 'bin/su'), 'user.note'), xattr(join(at.root, 'bin/su'), 'trusted.overlay.opaque'), xattr(join(at.root, 'bin/su'), 'security.selinux')], ['hi', undefined, undefined]);
  assert.notEqual(xattr(join(at.root, 'bin/ping'), 'security.capability'), undefined);
  const bin = lstatSync(join(at.root, 'bin'));
  assert.deepEqual([bin.mode & 0o7777, bin.uid, bin.gid, bin.mtimeMs], [0o1775, 3, 4, 1_000_000], 'also the time, though files came into it later');
  assert.deepEqual([lstatSync(at.root).mode & 0o7777, lstatSync(at.root).mtimeMs], [0o711, 5000]);
  assert.deepEqual([readlinkSync(join(at.root, 'bin/link')), lstatSync(join(at.root, 'bin/link')).uid], ['/etc/passwd', 9]);
  assert.ok(lstatSync(join(at.root, 'bin/fifo')).isFIFO());
  const disk = lstatSync(join(at.root, 'bin/disk'));
  assert.deepEqual([disk.isBlockDevice(), disk.rdev >> 8 & 0xfff, (disk.rdev & 0xff) | (disk.rdev >> 12 & 0xfff00)], [true, 259, 300]);
});

test('whiteouts become what overlayfs understands, and spare what the layer itself brings', () => {
  using at = place();
  apply(at.root, [
    { name: 'a/', flag: '5' },
    { name: 'a/.wh.gone' },
    { name: 'a/kept', content: 'new' },
    { name: 'a/.wh.kept' },
    { name: 'b/.wh..wh..opq' },
    { name: 'c/.wh.dir' },
    { name: 'c/dir/', flag: '5' },
    { name: 'd/', flag: '5' },
    { name: '.wh.d' },
    { name: '.wh..wh.plnk/1', content: 'aufs' },
    { name: '.wh..wh.aufs', content: 'aufs' },
  ]);
  assert.ok(isWhiteout(join(at.root, 'a/gone')));
  assert.equal(readFileSync(join(at.root, 'a/kept'), 'utf8'), 'new');
  assert.equal(xattr(join(at.root, 'b'), 'trusted.overlay.opaque'), 'y');
  assert.equal(xattr(join(at.root, 'c/dir'), 'trusted.overlay.opaque'), 'y', 'removed and made again: nothing shines through');
  assert.equal(xattr(join(at.root, 'd'), 'trusted.overlay.opaque'), 'y');
  assert.deepEqual(readdirSync(at.root).toSorted(), ['a', 'b', 'c', 'd']);
});

test('the later of two entries of one name wins', () => {
  using at = place();
  apply(at.root, [
    { name: 'x/', flag: '5' },
    { name: 'x/old/deep', content: '1' },
    { name: 'x', content: 'file' },
    { name: 'y', flag: '2', link: 'x' },
    { name: 'y/', flag: '5' },
    { name: 'y/in', content: 'in' },
    { name: 'z', content: '1' },
    { name: 'z', content: '2' },
  ]);
  assert.equal(readFileSync(join(at.root, 'x'), 'utf8'), 'file');
  assert.equal(readFileSync(join(at.root, 'y/in'), 'utf8'), 'in');
  assert.equal(readFileSync(join(at.root, 'z'), 'utf8'), '2');
});

const linkOut = (at: Place): string => at.outside;
const escapes: readonly (readonly [name: string, items: (at: Place) => TarItem[], refusal: RegExp | undefined])[] = [
  ['".." in front', () => [{ name: '../outside/new', content: 'x' }], /contains "\.\."/],
  ['".." in the middle', () => [{ name: 'a/', flag: '5' }, { name: 'a/../../outside/new', content: 'x' }], /contains "\.\."/],
  ['an absolute symlink, then a file through it', (at) => [{ name: 'l', flag: '2', link: linkOut(at) }, { name: 'l/new', content: 'x' }], undefined],
  ['a climbing symlink, then a file through it', () => [{ name: 'l', flag: '2', link: '../../../../outside' }, { name: 'l/new', content: 'x' }], undefined],
  ['a chain of symlinks', () => [{ name: 'a', flag: '2', link: '..' }, { name: 'b', flag: '2', link: 'a/outside' }, { name: 'b/new', content: 'x' }], undefined],
  ['a file, replaced by a symlink, then written', (at) => [{ name: 'd/f', content: '1' }, { name: 'd', flag: '2', link: linkOut(at) }, { name: 'd/secret', content: 'overwritten' }], undefined],
  ['a symlink as the file itself', (at) => [{ name: 's', flag: '2', link: `${linkOut(at)}/secret` }, { name: 's', content: 'overwritten' }], undefined],
  ['a hard link to a file outside', (at) => [{ name: 'h', flag: '1', link: `${linkOut(at)}/secret` }], undefined],
  ['a hard link that climbs', () => [{ name: 'h', flag: '1', link: '../outside/secret' }], /hard link to .* contains "\.\."/],
  ['a hard link through a symlink to outside', (at) => [{ name: 'l', flag: '2', link: linkOut(at) }, { name: 'h', flag: '1', link: 'l/secret' }], undefined],
  ['a whiteout of ".."', () => [{ name: '.wh...', content: '' }], /whiteout of no name/],
  ['a whiteout of nothing', () => [{ name: 'a/.wh.', content: '' }], /whiteout of no name/],
  ['a whiteout through a symlink', (at) => [{ name: 'l', flag: '2', link: linkOut(at) }, { name: 'l/.wh.secret' }], undefined],
  ['an opaque mark through a symlink', (at) => [{ name: 'l', flag: '2', link: linkOut(at) }, { name: 'l/.wh..wh..opq' }], undefined],
  ['a directory over a symlink, with times to be set at the end', (at) => [{ name: 'd/', flag: '5', mtime: 1 }, { name: 'd', flag: '2', link: linkOut(at) }], undefined],
  ['a loop of symlinks', () => [{ name: 'a', flag: '2', link: 'b' }, { name: 'b', flag: '2', link: 'a' }, { name: 'a/f', content: 'x' }], /too many symlinks/],
  ['a file below a file', () => [{ name: 'f', content: 'x' }, { name: 'f/g', content: 'x' }], /"f" is a file/],
  ['a hard link to a directory', () => [{ name: 'd/', flag: '5' }, { name: 'h', flag: '1', link: 'd' }], /hard link to the directory/],
  ['more entries than allowed', () => Array.from({ length: 11 }, (_, index) => ({ name: `f${index}` })), /more than 10 entries/],
  ['more bytes than allowed', () => [{ name: 'f', size: 2_000_000, content: '' }], /more than 1000000 bytes/],
];
for (const [name, items, refusal] of escapes) {
  test(`nothing outside is touched by ${name}`, () => {
    using at = place();
    const before = lstatSync(at.outside, { bigint: true });
    const secretBefore = lstatSync(join(at.outside, 'secret'), { bigint: true });
    const run = (): Applied => apply(at.root, items(at), { limits: { maxEntries: 10, maxBytes: 1_000_000 } });
    if (refusal === undefined) run();
    else assert.throws(run, refusal);
    assert.deepEqual(readdirSync(at.outside), ['secret']);
    assert.equal(readFileSync(join(at.outside, 'secret'), 'utf8'), 'secret');
    assert.equal(xattr(at.outside, 'trusted.overlay.opaque'), undefined);
    assert.deepEqual(readdirSync(join(at.root, '..')).toSorted(), ['outside', 'root']);
    for (const [path, was] of [[at.outside, before], [join(at.outside, 'secret'), secretBefore]] as const) {
      const now = lstatSync(path, { bigint: true });
      assert.deepEqual([now.mode, now.uid, now.nlink, now.mtimeNs, now.ctimeNs], [was.mode, was.uid, was.nlink, was.mtimeNs, was.ctimeNs]);
    }
  });
}

test('a symlinked parent leads to where it does inside the layer', () => {
  using at = place();
  apply(at.root, [{ name: 'usr/lib/', flag: '5' }, { name: 'lib', flag: '2', link: 'usr/lib' }, { name: 'lib/a', content: '1' }, { name: 'abs', flag: '2', link: '/usr/new' }, { name: 'abs/b', content: '2' }, { name: 'h', flag: '1', link: 'lib/a' }]);
  assert.equal(readFileSync(join(at.root, 'usr/lib/a'), 'utf8'), '1');
  assert.equal(readFileSync(join(at.root, 'usr/new/b'), 'utf8'), '2');
  assert.equal(lstatSync(join(at.root, 'h')).nlink, 2);
});

test('a hard link with an absolute name means the file in the layer', () => {
  using at = place();
  apply(at.root, [{ name: 'bin/busybox', content: 'b' }, { name: 'bin/sh', flag: '1', link: '/bin/busybox' }]);
  assert.equal(readFileSync(join(at.root, 'bin/sh'), 'utf8'), 'b');
});

test('a hard link to a file that is not in the layer is reported', () => {
  using at = place();
  assert.deepEqual(apply(at.root, [{ name: 'h', flag: '1', link: 'nowhere' }]).missingLinks, ['h → nowhere']);
});

test('zeros take no room on the disk', () => {
  using at = place();
  apply(at.root, [{ name: 'zero', content: Buffer.alloc(3_000_001) }, { name: 'mixed', content: Buffer.concat([Buffer.alloc(100_000), Buffer.from('x'), Buffer.alloc(100_000)]) }]);
  const zero = lstatSync(join(at.root, 'zero'));
  assert.equal(zero.size, 3_000_001);
  assert.ok(zero.blocks * 512 < 1_000_000, `${zero.blocks} blocks`);
  assert.equal(readFileSync(join(at.root, 'mixed')).indexOf('x'), 100_000);
});

test('a hundred thousand directories deep is refused by the kernel, not by a crash', () => {
  using at = place();
  assert.throws(() => apply(at.root, [{ name: 'x', pax: { path: `${'d/'.repeat(100_000)}f` } }]));
});

test('a directory without an entry takes over what the layers below say of it', () => {
  using at = place();
  const [bottom, middle] = [at.layer('bottom'), at.layer('middle')];
  apply(bottom, [{ name: 'tmp/', flag: '5', mode: 0o1777, uid: 5, mtime: 77 }, { name: 'gone/', flag: '5', mode: 0o700 }, { name: 'srv/', flag: '5', mode: 0o750 }]);
  apply(middle, [{ name: '.wh.gone' }, { name: 'srv/', flag: '5', mode: 0o751 }]);
  const { implicitDirectories } = apply(at.root, [{ name: 'tmp/f' }, { name: 'gone/f' }, { name: 'srv/f' }, { name: 'new/f' }]);
  assert.deepEqual(implicitDirectories, ['tmp', 'gone', 'srv', 'new']);
  assert.equal(settleLayer({ directory: at.root, implicitDirectories, lowers: [middle, bottom] }), true);
  const mode = (path: string): number => lstatSync(join(at.root, path)).mode & 0o7777;
  assert.deepEqual([mode('tmp'), mode('gone'), mode('srv'), mode('new')], [0o1777, 0o755, 0o751, 0o755]);
  assert.deepEqual([lstatSync(join(at.root, 'tmp')).uid, lstatSync(join(at.root, 'tmp')).mtimeMs], [5, 77_000]);
});

test('a directory that is a symlink below asks for the second way, which goes through the symlink', () => {
  using at = place();
  const [bottom, second] = [at.layer('bottom'), at.layer('second')];
  apply(bottom, [{ name: 'usr/lib/', flag: '5', mode: 0o711 }, { name: 'lib', flag: '2', link: 'usr/lib' }, { name: 'usr/lib/libc', content: 'c', mode: 0o755, uid: 3 }]);
  const items: TarItem[] = [{ name: 'lib/new', content: 'n' }, { name: 'copy', flag: '1', link: 'lib/libc' }];
  const { implicitDirectories, missingLinks } = apply(at.root, items);
  assert.deepEqual(missingLinks, ['copy → lib/libc']);
  assert.equal(settleLayer({ directory: at.root, implicitDirectories, lowers: [bottom] }), false);
  assert.deepEqual(apply(second, items, { lowers: [bottom] }).missingLinks, []);
  assert.deepEqual(readdirSync(second).toSorted(), ['copy', 'usr'], 'no directory lib that would hide the symlink');
  assert.equal(readFileSync(join(second, 'usr/lib/new'), 'utf8'), 'n');
  assert.equal(lstatSync(join(second, 'usr/lib')).mode & 0o7777, 0o711);
  const copy = lstatSync(join(second, 'copy'));
  assert.deepEqual([copy.nlink, copy.uid, copy.mode & 0o7777], [2, 3, 0o755], 'brought up and linked');
});

test('the view of the layers below is that of overlayfs', () => {
  using at = place();
  const [a, b] = [at.layer('a'), at.layer('b')];
  apply(a, [{ name: 'd/one' }, { name: 'e/x' }, { name: 'f', content: '1' }]);
  apply(b, [{ name: 'd/.wh.one' }, { name: 'e/.wh..wh..opq' }, { name: 'f/', flag: '5' }]);
  const look = (path: string): string | undefined => lookUpLower([b, a], path.split('/'))?.path;
  assert.deepEqual([look('d'), look('d/one'), look('e/x'), look('f'), look('nothing')], [join(b, 'd'), undefined, undefined, join(b, 'f'), undefined]);
});

test('an archive of images brings neither owners nor devices, and whiteout names mean nothing', () => {
  using at = place();
  apply(at.root, [{ name: 'f', content: 'x', uid: 77 }, { name: '.wh.f', content: 'y' }], { plain: true });
  assert.deepEqual([readFileSync(join(at.root, 'f'), 'utf8'), lstatSync(join(at.root, 'f')).uid], ['x', process.getuid?.()]);
  assert.throws(() => apply(at.root, [{ name: 'null', flag: '3', major: 1, minor: 3 }], { plain: true }), /no place in an archive/);
});

test('a symlink that lies in the directory before the layer comes is not followed', () => {
  using at = place();
  symlinkSync(at.outside, join(at.root, 'planted'));
  using directory = Directory.open(at.root);
  assert.throws(() => directory.openBelow('planted'), (error) => isErrno(error, 'ELOOP', 'ENOTDIR'));
  apply(at.root, [{ name: 'planted', content: 'x' }]);
  assert.deepEqual(readdirSync(at.outside), ['secret']);
});
