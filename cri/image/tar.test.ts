/** The tar reader: formats that layers come in, damage, and bytes in pieces of any size. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fault } from '#host/fault.ts';
import { TarReader, type TarEntry } from './tar.ts';
import { makeTar, padded, paxData, tarHeader, tarItem, withChecksum, type TarItem } from './tar-writer.fake.ts';

interface Read extends TarEntry {
  readonly content: string;
}
function read(archive: Uint8Array, pieceBytes = archive.length): Read[] {
  const entries: Read[] = [];
  let current: { entry: TarEntry; chunks: Buffer[] } | undefined;
  const reader = new TarReader({
    entry: (entry) => (current = { entry, chunks: [] }),
    data: (chunk) => current?.chunks.push(Buffer.from(chunk)),
    endEntry: () => {
      if (current !== undefined) entries.push({ ...current.entry, content: Buffer.concat(current.chunks).toString('latin1') });
      current = undefined;
    },
  });
  for (let at = 0; at < archive.length; at += pieceBytes) reader.push(archive.subarray(at, at + pieceBytes));
  reader.end();
  return entries;
}
const one = (item: TarItem): Read => {
  const [entry, ...more] = read(makeTar([item]));
  assert.ok(entry !== undefined && more.length === 0);
  return entry;
};

test('all types of entries are read with their attributes', () => {
  const entries = read(
    makeTar([
      { name: 'd/', flag: '5', mode: 0o1777 },
      { name: 'd/f', content: 'hello', mode: 0o4755, uid: 7, gid: 8, mtime: 9 },
      { name: 'l', flag: '2', link: '../x' },
      { name: 'h', flag: '1', link: 'd/f', size: 5 },
      { name: 'p', flag: '6' },
      { name: 'c', flag: '3', major: 1, minor: 3 },
      { name: 'b', flag: '4', major: 8, minor: 300 },
    ]),
  );
  assert.deepEqual(entries.map(({ name, type, linkName, content }) => [name, type, linkName, content]), [
    ['d/', 'directory', '', ''],
    ['d/f', 'file', '', 'hello'],
    ['l', 'symlink', '../x', ''],
    ['h', 'hardlink', 'd/f', ''],
    ['p', 'fifo', '', ''],
    ['c', 'character', '', ''],
    ['b', 'block', '', ''],
  ]);
  const file = entries[1];
  assert.deepEqual([file?.mode, file?.uid, file?.gid, file?.modified], [0o4755, 7, 8, { seconds: 9n, nanoseconds: 0 }]);
  assert.deepEqual(entries[6]?.device, { major: 8, minor: 300 });
});

test('every way of cutting the stream into pieces gives the same entries', () => {
  const archive = makeTar([
    { name: 'a', content: 'x'.repeat(1500) },
    { name: 'b', content: 'y'.repeat(512), pax: { path: 'long/'.repeat(40), 'SCHILY.xattr.user.k': Buffer.from([0, 1, 255]) } },
    { name: 'c', content: '' },
  ]);
  const whole = read(archive);
  assert.equal(whole.length, 3);
  for (const pieceBytes of [1, 3, 511, 512, 513, 1000]) assert.deepEqual(read(archive, pieceBytes), whole, `${pieceBytes} bytes at a time`);
});

test('pax records override the header: names, ids, times, xattrs', () => {
  const entry = one({ name: 'short', pax: { path: 'päth', uid: '70000000', gid: '5', mtime: '1350244992.023960108', 'SCHILY.xattr.security.capability': Buffer.from([1, 0, 0, 2]) } });
  assert.deepEqual([entry.name, entry.uid, entry.gid], ['päth', 70_000_000, 5]);
  assert.deepEqual(entry.modified, { seconds: 1_350_244_992n, nanoseconds: 23_960_108 });
  assert.deepEqual(entry.xattrs.get('security.capability'), Buffer.from([1, 0, 0, 2]));
});
test('a time before 1970 with a fraction counts from below', () => assert.deepEqual(one({ name: 'x', pax: { mtime: '-1.25' } }).modified, { seconds: -2n, nanoseconds: 750_000_000 }));
test('a pax size is the size of the content', () => {
  const archive = Buffer.concat([tarItem({ name: 'p', flag: 'x', content: paxData({ size: '5' }) }), tarHeader({ name: 'f', size: 0 }), padded(Buffer.from('12345')), Buffer.alloc(1024)]);
  assert.equal(read(archive)[0]?.content, '12345');
});
test('global records hold for all that follow, but for names and sizes', () => {
  const archive = Buffer.concat([tarItem({ name: 'g', flag: 'g', content: paxData({ uid: '9', path: 'evil', comment: 'x' }) }), makeTar([{ name: 'a', uid: 1 }, { name: 'b', pax: { uid: '2' } }])]);
  assert.deepEqual(read(archive).map(({ name, uid }) => [name, uid]), [['a', 9], ['b', 2]]);
});
test('GNU long names and links are read', () => {
  const name = `${'n'.repeat(150)}/f`;
  const archive = Buffer.concat([
    tarItem({ name: '././@LongLink', flag: 'L', content: `${name}\0`, magic: 'ustar  \0' }),
    tarItem({ name: '././@LongLink', flag: 'K', content: `${'t'.repeat(200)}\0`, magic: 'ustar  \0' }),
    makeTar([{ name: 'cut', flag: '2', link: 'cut', magic: 'ustar  \0' }]),
  ]);
  const [entry] = read(archive);
  assert.deepEqual([entry?.name, entry?.linkName], [name, 't'.repeat(200)]);
});
test('the ustar prefix belongs in front of the name', () => {
  const header = tarHeader({ name: 'file' });
  header.write('some/dir', 345);
  assert.equal(read(Buffer.concat([withChecksum(header), Buffer.alloc(1024)]))[0]?.name, 'some/dir/file');
});
test('numbers in base 256 are read', () => {
  const header = tarHeader({ name: 'f' });
  header.fill(0, 108, 116);
  header[108] = 0x80;
  header.writeUInt32BE(3_000_000_000, 112);
  assert.equal(read(Buffer.concat([withChecksum(header), Buffer.alloc(1024)]))[0]?.uid, 3_000_000_000);
});
test('an old entry with a slash at the end is a directory', () => assert.equal(one({ name: 'd/', flag: '\0' }).type, 'directory'));
test('an archive without an end mark is accepted, one that ends inside an entry is not', () => {
  assert.equal(read(tarItem({ name: 'f', content: 'abc' })).length, 1);
  assert.throws(() => read(tarItem({ name: 'f', content: 'abc' }).subarray(0, 514)), /cut off/);
  assert.throws(() => read(tarHeader({ name: 'f' }).subarray(0, 100)), /cut off/);
  assert.throws(() => read(tarItem({ name: 'x', flag: 'x', content: paxData({ path: 'p' }) })), /cut off/);
});
test('what follows the end mark is ignored', () => assert.equal(read(Buffer.concat([makeTar([{ name: 'f' }]), Buffer.from('garbage'.repeat(200))])).length, 1));
test('an empty layer has no entries', () => assert.deepEqual(read(Buffer.alloc(1024)), []));

const bad: readonly (readonly [name: string, archive: Buffer, message: RegExp])[] = [
  ['a wrong checksum', Buffer.concat([tarHeader({ name: 'f' }).fill(0x41, 0, 1), Buffer.alloc(1024)]), /wrong checksum/],
  ['text', Buffer.from('hello '.repeat(200)), /wrong checksum|octal/],
  ['a GNU sparse file', makeTar([{ name: 'f', flag: 'S' }]), /"f" is stored as a sparse file/],
  ['a pax sparse file', makeTar([{ name: 'f', pax: { 'GNU.sparse.major': '1' } }]), /sparse file/],
  ['an unknown type', makeTar([{ name: 'f', flag: 'V' }]), /unknown type "V"/],
  ['a pax record of the wrong length', makeTar([{ name: 'p', flag: 'x', content: '99 path=x\n' }]), /pax header is damaged/],
  ['a pax name with a NUL', makeTar([{ name: 'f', pax: { path: 'a\0b' } }]), /contains a NUL/],
  ['a pax size that is no number', makeTar([{ name: 'f', pax: { size: '1e9' } }]), /record size is not a number/],
  ['a negative size', makeTar([{ name: 'f', pax: { size: '-1' } }]), /negative size/],
  ['an impossible owner', makeTar([{ name: 'f', pax: { uid: '4294967295' } }]), /impossible id/],
  ['a pax header of 2 MiB', makeTar([{ name: 'p', flag: 'x', content: Buffer.alloc(2 * 1024 * 1024, 0x61) }]), /has 2097152 bytes/],
  ['content after half an end mark', Buffer.concat([Buffer.alloc(512), makeTar([{ name: 'f' }])]), /half end mark/],
];
for (const [name, archive, message] of bad) test(`${name} is refused`, () => assert.throws(() => read(archive), message));

test('whatever bytes are changed, the reader ends with entries or a clear refusal', () => {
  const archive = makeTar([{ name: 'a', content: 'abc' }, { name: 'b', pax: { path: 'x/y', mtime: '1.5' } }, { name: 'c/', flag: '5' }]);
  let seed = 1;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed % below;
  };
  for (let round = 0; round < 3000; round++) {
    const damaged = Buffer.from(archive);
    for (let change = 0; change <= random(3); change++) damaged[random(damaged.length)] = random(256);
    // Half of them with checksums put right, so that damage gets further than the first check.
    if (round % 2 === 0) {
      for (let at = 0; at + 512 <= damaged.length; at += 512) if (damaged.toString('latin1', at + 257, at + 262) === 'ustar') withChecksum(damaged.subarray(at, at + 512));
    }
    try {
      read(damaged, 1 + random(700));
    } catch (error) {
      assert.ok(error instanceof Fault && error.kind === 'invalid', `round ${round}: ${String(error)}`);
    }
  }
});
