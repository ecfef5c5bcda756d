/** The files of a volume and how they are swapped. */
import assert from 'node:assert/strict';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import type { ConfigMap, Secret } from '../kube/types.ts';
import { configMapPayload, onlyUser, secretPayload } from './payload.ts';
import type { Payload } from './payload.ts';
import { writePayload } from './payload-writer.ts';

const payloadOf = (files: Record<string, string>, mode = 0o644): Payload => new Map(Object.entries(files).map(([path, text]) => [path, { data: Buffer.from(text), mode }]));

test('files are reached through ..data, and a change swaps them all at once', async () => {
  await using dir = await temporary();
  assert.equal(await writePayload(dir.path, payloadOf({ a: '1', 'sub/b': '2', 'sub/deep/c': '3' })), true);
  const first = await readlink(join(dir.path, '..data'));
  assert.match(first, /^\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+$/);
  assert.equal(await readlink(join(dir.path, 'a')), '..data/a');
  assert.equal(await readlink(join(dir.path, 'sub')), '..data/sub');
  assert.equal(await readFile(join(dir.path, 'sub/deep/c'), 'utf8'), '3');

  assert.equal(await writePayload(dir.path, payloadOf({ a: '1', 'sub/b': '2', 'sub/deep/c': '3' })), false, 'nothing changed');
  assert.equal(await readlink(join(dir.path, '..data')), first);

  assert.equal(await writePayload(dir.path, payloadOf({ a: 'new', d: '4' })), true);
  const second = await readlink(join(dir.path, '..data'));
  assert.notEqual(second, first);
  assert.deepEqual((await readdir(dir.path)).toSorted(), ['..data', second, 'a', 'd'].toSorted(), 'old names and the old directory are gone');
  assert.equal(await readFile(join(dir.path, 'a'), 'utf8'), 'new');
});

test('modes are exact whatever the umask, and a changed mode is a change', async () => {
  await using dir = await temporary();
  const before = process.umask(0o077);
  try {
    await writePayload(dir.path, payloadOf({ 'x/y': 'k' }, 0o664));
    assert.equal((await stat(join(dir.path, 'x/y'))).mode & 0o777, 0o664);
    assert.equal((await stat(join(dir.path, 'x'))).mode & 0o777, 0o755);
    assert.equal(await writePayload(dir.path, payloadOf({ 'x/y': 'k' }, 0o777)), true);
    assert.equal((await stat(join(dir.path, 'x/y'))).mode & 0o777, 0o777);
  } finally {
    process.umask(before);
  }
});

test('the remains of an interrupted write do not stay, and what the user put there does', async () => {
  await using dir = await temporary();
  await mkdir(join(dir.path, '..2026_01_01_00_00_00.1'));
  await symlink('..2026_01_01_00_00_00.1', join(dir.path, '..data_tmp'));
  await writeFile(join(dir.path, 'foreign'), 'x');
  await writePayload(dir.path, payloadOf({ a: '1' }));
  const names = await readdir(dir.path);
  assert.equal(names.length, 4);
  assert.ok(names.includes('foreign') && !names.includes('..2026_01_01_00_00_00.1') && !names.includes('..data_tmp'));
});

test('an empty payload is an empty volume', async () => {
  await using dir = await temporary();
  await writePayload(dir.path, new Map());
  assert.ok((await lstat(join(dir.path, '..data'))).isSymbolicLink());
});

test('what cannot be published leaves the old files as they were', async () => {
  await using dir = await temporary();
  await writePayload(dir.path, payloadOf({ a: '1' }));
  await assert.rejects(writePayload(dir.path, payloadOf({ a: '2' }), { beforePublish: () => Promise.reject(new Error('no')) }));
  assert.equal(await readFile(join(dir.path, 'a'), 'utf8'), '1');
  assert.equal((await readdir(dir.path)).length, 3);
});

for (const path of ['', '/etc/passwd', '../up', 'a/../../b', '..hidden', 'x'.repeat(256)]) {
  test(`the path ${JSON.stringify(path.slice(0, 20))} is refused and nothing is written`, async () => {
    await using dir = await temporary();
    await assert.rejects(writePayload(dir.path, payloadOf({ ok: '1', [path]: 'x' })), (error) => isFault(error, 'invalid') && error.message.startsWith('invalid path'));
    assert.deepEqual(await readdir(dir.path), []);
  });
}

const configMap: ConfigMap = { data: { text: 'hello' }, binaryData: { blob: Buffer.from([0, 255]).toString('base64') } };
const secret: Secret = { data: { pass: Buffer.from('s3').toString('base64') }, stringData: { plain: 'p' } };
const shown = (payload: Payload): [string, string, string][] => [...payload].map(([path, { data, mode }]) => [path, Buffer.from(data).toString('hex'), mode.toString(8)]);

test('keys become files with the default mode, binary data included', () => {
  assert.deepEqual(shown(configMapPayload(configMap, undefined, 0o640, false)), [['text', '68656c6c6f', '640'], ['blob', '00ff', '640']]);
  assert.deepEqual(shown(secretPayload(secret, [], 0o400, false)), [['pass', '7333', '400'], ['plain', '70', '400']]);
});

test('items choose keys, paths and modes; a missing one is the kubelet\'s error unless it is optional', () => {
  assert.deepEqual(shown(configMapPayload(configMap, [{ key: 'text', path: 'a/b', mode: 0o600 }, { key: 'no', path: 'c' }], 0o644, true)), [['a/b', '68656c6c6f', '600']]);
  assert.throws(() => configMapPayload(configMap, [{ key: 'no', path: 'c' }], 0o644, false), { message: 'configmap references non-existent config key: no' });
  assert.throws(() => secretPayload(secret, [{ key: 'no', path: 'c' }], 0o644, false), { message: 'references non-existent secret key: no' });
  assert.equal(configMapPayload(undefined, undefined, 0o644, true).size, 0);
});

test('the only user of a pod is the one that all its containers run as', () => {
  const container = (runAsUser?: number): { name: string; securityContext?: { runAsUser: number } } => ({ name: 'c', ...(runAsUser !== undefined && { securityContext: { runAsUser } }) });
  assert.equal(onlyUser({ spec: { containers: [container(7), container(7)] } }), 7);
  assert.equal(onlyUser({ spec: { containers: [container(7), container()], securityContext: { runAsUser: 7 } } }), 7);
  assert.equal(onlyUser({ spec: { containers: [container(7), container()] } }), undefined);
  assert.equal(onlyUser({ spec: { containers: [container(7), container(8)] } }), undefined);
});

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'payload-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
