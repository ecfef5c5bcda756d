/** Wiping: in the order of the halves, under all their locks, and nothing while somebody holds one. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { car, engine, wheels } from './halves.fake.ts';
import type { Program } from './program.ts';
import { lockRoot } from './root-lock.ts';
import { wipe } from './wipe.ts';

function scene(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'nodelet-wipe-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  t.mock.method(console, 'log', () => undefined);
  const wiped: string[] = [];
  const lockFileOf = (name: string): string => join(dir, name, 'lock');
  const halves = [engine, wheels].map((half) => ({
    ...half,
    lockFile: () => lockFileOf(half.name),
    wipe: async () => {
      assert.ok(existsSync(lockFileOf('engine')) && existsSync(lockFileOf('wheels')), 'both locks are held');
      wiped.push(half.name);
    },
  }));
  const program: Program = { ...car, halves, version: '0', about: '', hints: '', commands: [] };
  const configFile = join(dir, 'c.yaml');
  writeFileSync(configFile, '');
  return { lockFileOf, wiped, run: () => wipe({ program, flags: { config: configFile }, args: [] }) };
}

test('the halves are wiped in the order of their start, then their locks and empty directories go; again is fine', async (t) => {
  const { lockFileOf, wiped, run } = scene(t);
  assert.equal(await run(), 0);
  assert.equal(await run(), 0);
  assert.deepEqual(wiped, ['engine', 'wheels', 'engine', 'wheels']);
  for (const name of wiped) assert.ok(!existsSync(join(lockFileOf(name), '..')), name);
});

test('while one half runs nothing of either is touched, and who runs is told', async (t) => {
  const { lockFileOf, wiped, run } = scene(t);
  {
    using _ = await lockRoot(lockFileOf('wheels'));
    await assert.rejects(run(), { kind: 'precondition', message: new RegExp(`wheels is in use by nodelet with pid ${process.pid}: stop that first$`) });
    assert.deepEqual(wiped, []);
    assert.equal(readFileSync(lockFileOf('wheels'), 'utf8'), `${process.pid}\n`);
  }
  assert.equal(await run(), 0);
});

test('what somebody else keeps beside a lock stays', async (t) => {
  const { lockFileOf, run } = scene(t);
  (await lockRoot(lockFileOf('engine')))[Symbol.dispose]();
  const other = join(lockFileOf('engine'), '..', 'other');
  writeFileSync(other, '');
  assert.equal(await run(), 0);
  assert.ok(existsSync(other) && !existsSync(lockFileOf('engine')));
});
