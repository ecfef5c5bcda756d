/** Runs on whatever this machine has: v1/hybrid or v2 (hack/test-cgroup2.sh runs it on v2). All groups lie below /nodelet-test-PID. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseCgroupMounts } from './cgroup-parse.ts';
import { openCgroups } from './cgroup.ts';
import { isFault } from './fault.ts';
import { quietCtx } from './log.ts';

const ctx = quietCtx();
const cgroups = openCgroups();
const root = `/nodelet-test-${process.pid}`;
const mounts = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
const trees = [...new Set([...mounts.v1.values(), ...(mounts.unified === undefined ? [] : [mounts.unified])])];
const file = (v1: string, v2: string, path: string): string => {
  const tree = cgroups.version === 2 ? mounts.unified : mounts.v1.get(v1.split('.')[0] ?? '');
  return readFileSync(join(tree ?? '', path, cgroups.version === 2 ? v2 : v1), 'utf8').trim();
};
const leftovers = (path: string): string[] => trees.map((tree) => join(tree, path)).filter((directory) => existsSync(directory));

const started: ChildProcess[] = [];
/** A shell that waits for a line before it does `script`, so that it can be moved into a group first. */
function startIn(script: string): ChildProcess & { pid: number } {
  const child = spawn('sh', ['-c', `read line; ${script}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  assert.ok(child.pid !== undefined);
  started.push(child);
  return child as ChildProcess & { pid: number };
}
const go = (child: ChildProcess): unknown => child.stdin?.write('\n');

after(async () => {
  for (const child of started) child.kill('SIGKILL');
  await cgroups.kill(ctx, root);
  await cgroups.remove(ctx, root);
  assert.deepEqual(leftovers(root), [], 'the tests left groups behind');
});

test('a group is made with its parents in every hierarchy, twice without complaint, and goes with those below it, twice too', async () => {
  const path = `${root}/a/b/c`;
  await cgroups.create(path);
  await cgroups.create(path);
  const own = trees.filter((tree) => cgroups.version === 2 || tree !== mounts.unified);
  assert.deepEqual(leftovers(path), own.map((tree) => join(tree, path)));
  assert.deepEqual(await cgroups.children(`${root}/a`), ['b']);
  assert.equal(await cgroups.exists(path), true);
  await cgroups.remove(ctx, `${root}/a`);
  await cgroups.remove(ctx, `${root}/a`);
  assert.deepEqual(leftovers(`${root}/a`), []);
  assert.equal(await cgroups.exists(path), false);
  assert.deepEqual(await cgroups.children(`${root}/a`), []);
});

test('limits reach the kernel, are changed later, and -1 takes them away', async () => {
  const path = `${root}/limits`;
  await cgroups.create(path, { cpuShares: 512, cpuQuotaUs: 20_000, cpuPeriodUs: 100_000, memoryLimitBytes: 64 << 20, pidsLimit: 30 });
  assert.equal(file('cpu.shares', 'cpu.weight', path), cgroups.version === 2 ? '59' : '512');
  assert.equal(cgroups.version === 2 ? file('', 'cpu.max', path) : `${file('cpu.cfs_quota_us', '', path)} ${file('cpu.cfs_period_us', '', path)}`, '20000 100000');
  assert.equal((await cgroups.usage(path)).memory?.limitBytes, 64 << 20);
  assert.equal((await cgroups.details(path)).pids?.limit, 30);
  await cgroups.apply(path, { cpuQuotaUs: 5000, cpuPeriodUs: 10_000, memoryLimitBytes: 32 << 20 });
  assert.equal(cgroups.version === 2 ? file('', 'cpu.max', path) : `${file('cpu.cfs_quota_us', '', path)} ${file('cpu.cfs_period_us', '', path)}`, '5000 10000');
  assert.equal((await cgroups.usage(path)).memory?.limitBytes, 32 << 20);
  assert.equal((await cgroups.details(path)).pids?.limit, 30, 'what is not named stays');
  await cgroups.apply(path, { cpuQuotaUs: -1, memoryLimitBytes: -1, pidsLimit: -1 });
  assert.equal(file('cpu.cfs_quota_us', 'cpu.max', path).split(' ')[0], cgroups.version === 2 ? 'max' : '-1');
  assert.equal((await cgroups.usage(path)).memory?.limitBytes, undefined);
  assert.equal((await cgroups.details(path)).pids?.limit, undefined);
});

test('limits are set all or none', async () => {
  const path = `${root}/all-or-none`;
  await cgroups.create(path, { cpuShares: 512, pidsLimit: 30 });
  const before = [file('cpu.shares', 'cpu.weight', path), file('pids.max', 'pids.max', path), file('memory.limit_in_bytes', 'memory.max', path)];
  await assert.rejects(cgroups.apply(path, { cpuShares: 2048, memoryLimitBytes: 64 << 20, pidsLimit: 77, hugepages: { '3KB': 4096 } }));
  await assert.rejects(cgroups.apply(path, { cpuShares: 2048, cpusetCpus: '4000', pidsLimit: 77 }));
  assert.deepEqual([file('cpu.shares', 'cpu.weight', path), file('pids.max', 'pids.max', path), file('memory.limit_in_bytes', 'memory.max', path)], before);
});

test('memory and swap limits are taken in either order when lowered and raised', { skip: existsSync('/proc/swaps') ? false : 'no swap accounting' }, async () => {
  const path = `${root}/swap`;
  for (const [memory, both] of [[64, 96], [16, 20], [128, 128]] as const) {
    await cgroups.create(path, { memoryLimitBytes: memory << 20, memorySwapLimitBytes: both << 20 });
    assert.equal((await cgroups.usage(path)).memory?.limitBytes, memory << 20);
    assert.equal((await cgroups.usage(path)).memory?.swap?.limitBytes, (both - memory) << 20);
  }
});

test('unified settings are written on v2 and refused on v1', async () => {
  const path = `${root}/unified`;
  await cgroups.create(path);
  const setting = cgroups.apply(path, { unified: { 'memory.high': '8388608' } });
  if (cgroups.version === 1) return assert.rejects(setting, (error) => isFault(error, 'invalid'));
  await setting;
  assert.equal(file('', 'memory.high', path), '8388608');
});

test('a limit for a group that is gone, and for a controller that is not there, is a clear fault', async () => {
  await assert.rejects(cgroups.apply(`${root}/nowhere`, { pidsLimit: 5 }), (error) => isFault(error, 'not-found') && error.message.includes('nowhere'));
  const size = { '3MB': 0 };
  await cgroups.create(`${root}/huge`);
  await assert.rejects(cgroups.apply(`${root}/huge`, { hugepages: size }), (error) => isFault(error, 'precondition') && error.message.includes('hugetlb'));
});

test('a killed group loses all its processes, also those below and those that fork, and can then be removed', async () => {
  const path = `${root}/kill`;
  await cgroups.create(`${path}/one`);
  await cgroups.create(`${path}/two/deep`);
  const [quiet, forking] = [startIn('sleep 1000 & sleep 1000 & wait'), startIn('while :; do (sleep 0.05 &); sleep 0.01; done')];
  await cgroups.attach(`${path}/one`, quiet.pid);
  await cgroups.attach(`${path}/two/deep`, forking.pid);
  const exits = Promise.all([once(quiet, 'exit'), once(forking, 'exit')]);
  go(quiet);
  go(forking);
  while ((await cgroups.processes(`${path}/one`)).length < 3) await sleep(10);
  assert.ok((await cgroups.processes(`${path}/one`)).includes(quiet.pid));
  assert.deepEqual(await cgroups.processes(path), [], 'without recursive, groups below do not count');
  const all = await cgroups.processes(path, { recursive: true });
  assert.ok(all.includes(quiet.pid) && all.includes(forking.pid));
  await assert.rejects(cgroups.remove(ctx, path, { waitMs: 50 }), (error) => isFault(error, 'timeout'));
  await cgroups.kill(ctx, path);
  await cgroups.kill(ctx, path);
  assert.deepEqual(await cgroups.processes(path, { recursive: true }), []);
  for (const [code, signal] of await exits) assert.deepEqual([code, signal], [null, 'SIGKILL']);
  await cgroups.remove(ctx, path);
  assert.deepEqual(leftovers(path), []);
});

test('paused processes are killed as well', async () => {
  const path = `${root}/paused/container`;
  await cgroups.create(path);
  const child = startIn('sleep 1000');
  await cgroups.attach(path, child.pid);
  if (cgroups.version === 2) writeFileSync(join(mounts.unified ?? '', path, 'cgroup.freeze'), '1');
  else writeFileSync(join(mounts.v1.get('freezer') ?? '', path, 'freezer.state'), 'FROZEN');
  const exit = once(child, 'exit');
  await cgroups.kill(ctx, `${root}/paused`);
  assert.equal((await exit)[1], 'SIGKILL');
  await cgroups.remove(ctx, `${root}/paused`);
});

test('removing waits for processes that are about to end', async () => {
  const path = `${root}/dying`;
  await cgroups.create(path);
  const child = startIn('sleep 0.3');
  await cgroups.attach(path, child.pid);
  go(child);
  await cgroups.remove(ctx, path);
  assert.deepEqual(leftovers(path), []);
});

test('the numbers of a group follow what its processes do, and a group that is gone has none', async () => {
  const path = `${root}/usage`;
  await cgroups.create(path, { cpuQuotaUs: 90_000, cpuPeriodUs: 100_000 });
  // 12 MB of anonymous memory in the variable, some processor time, then silence.
  const child = startIn('x=$(head -c 12000000 /dev/zero | tr "\\0" x); i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo ready; sleep 1000');
  await cgroups.attach(path, child.pid);
  go(child);
  assert.ok(child.stdout !== null);
  await once(child.stdout, 'data');
  const { memory, cpu } = await cgroups.usage(path);
  const { cpuTimes, pids, history, io } = await cgroups.details(path);
  assert.ok(memory !== undefined && cpu !== undefined);
  assert.ok(memory.rssBytes > 11_000_000, `rss ${memory.rssBytes}`);
  assert.ok(memory.usageBytes >= memory.workingSetBytes && memory.workingSetBytes > 11_000_000);
  assert.ok(memory.pageFaults > 1000);
  assert.ok(cpu.usageNs > 1_000_000n && (cpuTimes?.periods ?? 0) > 0);
  assert.ok((pids?.current ?? 0) >= 1);
  assert.ok((await cgroups.members(path)).includes(child.pid ?? 0));
  assert.ok((history?.peakBytes ?? 0) > 11_000_000);
  assert.ok(io !== undefined || !cgroups.controllers.has('io'));
  await cgroups.kill(ctx, path);
  await cgroups.remove(ctx, path);
  const nothing = { cpu: undefined, memory: undefined, pressure: { cpu: undefined, memory: undefined, io: undefined } };
  assert.deepEqual(await cgroups.usage(path), nothing);
  assert.deepEqual(await cgroups.details(path), { cpuTimes: undefined, pids: undefined, history: undefined, oomKills: undefined, io: undefined, hugepages: [] });
});

test('a process over its memory limit is killed by the kernel, and the kill is counted', async () => {
  const path = `${root}/oom`;
  await cgroups.create(path, { memoryLimitBytes: 8 << 20, memorySwapLimitBytes: 8 << 20 });
  assert.equal((await cgroups.details(path)).oomKills, 0);
  const child = startIn('exec dd if=/dev/zero of=/dev/null bs=50M count=1 2>&-');
  await cgroups.attach(path, child.pid);
  const exit = once(child, 'exit');
  go(child);
  assert.equal((await exit)[1], 'SIGKILL');
  assert.ok((((await cgroups.details(path)).oomKills) ?? 0) >= 1);
});
