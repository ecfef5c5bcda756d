/** Which judges a word stands for, and the lock that keeps two builds apart. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chosen } from './build.ts';
import { takeLock } from './lock.ts';

test('words are judges or groups, each judge comes once, and an unknown word is refused with the known ones', () => {
  assert.deepEqual(chosen(['runc', 'cni', 'runc']).map((each) => each.name).sort(), ['bandwidth', 'bridge', 'firewall', 'host-local', 'loopback', 'portmap', 'ptp', 'runc']);
  assert.deepEqual(chosen([]), chosen(['test']));
  assert.throws(() => chosen(['kubelt']), /no judge or group is called kubelt\.\ngroups: all .*\njudges: .*kubelet/);
});

test('a lock is taken by one, passed on when it is given back, and taken from the dead', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'lock-'));
  const file = path.join(dir, 'lock');
  try {
    const order: string[] = [];
    const first = await takeLock(file);
    const second = takeLock(file, { onWait: () => order.push('second waits') }).then((lock) => { order.push('second has it'); return lock; });
    await sleep(300);
    order.push('first gives it back');
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
    assert.deepEqual(order, ['second waits', 'first gives it back', 'second has it']);
    writeFileSync(file, '4194304 12345');
    using _third = await takeLock(file, { withinMs: 0 });
    await assert.rejects(takeLock(file, { withinMs: 0 }), /is held by process/);
  } finally { rmSync(dir, { recursive: true }); }
  assert.equal(existsSync(dir), false);
});
