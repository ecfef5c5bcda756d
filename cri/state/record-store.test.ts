/** Records on disk: what is read back after a restart, prefixes, and damaged files. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ContainerConfig, PodSandboxConfig } from '#cri-api';
import { quietCtx } from '#host/log.ts';
import { asSandboxId, type SandboxId } from './ids.ts';
import { parseRecord, stringifyInfo, stringifyRecord } from './record-json.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import { sandboxStore, type SandboxStore } from './sandbox-store.ts';

const idOf = (letter: string): SandboxId => asSandboxId(letter.repeat(64));
const record = (id: SandboxId): SandboxRecord => ({
  version: 1, id, name: `k8s_POD_${id.slice(0, 2)}`, config: PodSandboxConfig.create({ labels: { a: '5n' } }), runtimeHandler: '', createdAtNs: 1_700_000_000_123_456_789n,
  dir: '/d', namespacesDir: '/n', hostname: 'h', ips: [], cniResult: undefined, init: undefined, state: { name: 'making' }, owns: [],
});

async function emptyStore(t: TestContext): Promise<{ dir: string; store: SandboxStore }> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-store-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const store = sandboxStore(dir);
  await store.load(quietCtx());
  return { dir, store };
}

test('a restarted store has what was written, 64-bit times included', async (t) => {
  const { dir, store } = await emptyStore(t);
  await store.add({ ...record(idOf('a')), owns: [{ kind: 'mount', target: '/m' }] });
  await store.update(idOf('a'), { type: 'made' });
  const again = sandboxStore(dir);
  await again.load(quietCtx());
  const { createdAtNs, state, owns, config } = again.get(idOf('a'));
  assert.deepEqual(
    { createdAtNs, state, owns, labels: config.labels },
    { createdAtNs: 1_700_000_000_123_456_789n, state: { name: 'ready' }, owns: [{ kind: 'mount', target: '/m' }], labels: { a: '5n' } },
  );
});

test('an id may be given by a prefix that fits one record', async (t) => {
  const { store } = await emptyStore(t);
  await store.add(record(idOf('a')));
  await store.add(record(`ab${'0'.repeat(62)}` as SandboxId));
  assert.equal(store.get('aa').id, idOf('a'));
  assert.throws(() => store.get('a'), { kind: 'invalid' });
  assert.throws(() => store.get('b'), { kind: 'not-found' });
  assert.equal(store.find(''), undefined);
});

test('a record that was cut off is an orphan, and the others are read', async (t) => {
  const { dir, store } = await emptyStore(t);
  await store.add(record(idOf('a')));
  await store.add(record(idOf('b')));
  const file = join(dir, idOf('b'), 'record.json');
  await writeFile(file, (await readFile(file, 'utf8')).slice(0, 40));
  const again = sandboxStore(dir);
  await again.load(quietCtx());
  assert.deepEqual(again.list().map(({ id }) => id), [idOf('a')]);
  assert.deepEqual(await again.orphans(), [join(dir, idOf('b'))]);
});

const foreign: readonly (readonly [string, (record: Record<string, unknown>) => unknown])[] = [
  ['nothing', () => null], ['a list', () => []], ['of a newer version', (whole) => ({ ...whole, version: 2 })], ['of an unknown state', (whole) => ({ ...whole, state: { name: 'flying' } })],
  ['without its list', ({ owns, ...rest }) => (owns === undefined ? owns : rest)], ['of another id', (whole) => ({ ...whole, id: 'c'.repeat(64) })],
];
for (const [what, change] of foreign) {
  test(`a record that is ${what} is not believed`, async (t) => {
    const { dir, store } = await emptyStore(t);
    await store.add(record(idOf('a')));
    const file = join(dir, idOf('a'), 'record.json');
    await writeFile(file, JSON.stringify(change(JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>)));
    const again = sandboxStore(dir);
    await again.load(quietCtx());
    assert.deepEqual(again.list(), []);
    assert.deepEqual(await again.orphans(), [join(dir, idOf('a'))]);
  });
}

test('what has happened holds even when it cannot be written; what is only wanted does not', async (t) => {
  const { dir, store } = await emptyStore(t);
  await store.add(record(idOf('a')));
  await rm(join(dir, idOf('a')), { recursive: true });
  await assert.rejects(store.update(idOf('a'), { type: 'made' }));
  assert.equal(store.get(idOf('a')).state.name, 'making');
  await store.observe(quietCtx(), idOf('a'), { type: 'stopped' });
  assert.equal(store.get(idOf('a')).state.name, 'not-ready');
});

test('changes to one record that come at once are all kept', async (t) => {
  const { store } = await emptyStore(t);
  const owns = Array.from({ length: 20 }, (_, i) => ({ kind: 'mount', target: `/${i}` }) as const);
  await store.add({ ...record(idOf('a')), owns });
  await Promise.all(owns.slice(1).map((each) => store.disown(idOf('a'), each)));
  assert.deepEqual(store.get(idOf('a')).owns, owns.slice(0, 1));
});

test('a record keeps bytes and 64-bit numbers, and texts that look like them', () => {
  const config = ContainerConfig.create({ envs: [{ key: 'K', value: new Uint8Array([0, 255, 10]) }], labels: { $int64x: '7', n: '12n' } });
  const read = parseRecord(stringifyRecord({ at: -9_007_199_254_740_993n, config, bytes: Buffer.from('hi') })) as { at: bigint; config: ContainerConfig; bytes: Uint8Array };
  assert.equal(read.at, -9_007_199_254_740_993n);
  assert.deepEqual(read.bytes, new Uint8Array(Buffer.from('hi')));
  assert.deepEqual(ContainerConfig.encode(read.config).finish(), ContainerConfig.encode(config).finish());
});

test('what is for people has plain numbers and text', () => {
  assert.equal(stringifyInfo({ limit: 67_108_864n, huge: 2n ** 63n, value: Buffer.from('of mouth'), list: [1n] }), '{"limit":67108864,"huge":"9223372036854775808","value":"of mouth","list":[1]}');
});
