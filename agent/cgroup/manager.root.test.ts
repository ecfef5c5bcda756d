/** Runs on whatever cgroup version this machine has; hack/test-cgroup2.sh runs it on v2. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { openCgroups } from '#host/cgroup.ts';
import { quietCtx } from '#host/log.ts';
import type { Pod } from '../kube/types.ts';
import { PodCgroups } from './manager.ts';

const ctx = quietCtx();
const cgroups = openCgroups();
const root = `/nodelet-test-pods-${process.pid}`;
const pods = new PodCgroups(cgroups, { driver: 'cgroupfs', cgroupRoot: root, podPidsLimit: 40 });
const MiB = 1 << 20;
const pod = (uid: string, requests: Record<string, string>, limits: Record<string, string> = {}): Pod => ({
  metadata: { uid }, spec: { containers: [{ name: 'c', resources: { requests, limits } }] },
});
const weightOfBurstable = (): string =>
  readFileSync(cgroups.version === 2 ? `/sys/fs/cgroup${root}/kubepods/burstable/cpu.weight` : `/sys/fs/cgroup/cpu${root}/kubepods/burstable/cpu.shares`, 'utf8').trim();
after(async () => {
  await cgroups.kill(ctx, root);
  await cgroups.remove(ctx, root);
});

test('kubepods and the tiers exist after the first call, and a second changes the limit', async () => {
  await pods.ensureRoot(ctx, { cpuMilli: 2000, memoryBytes: 512 * MiB, pids: 1000 });
  assert.equal((await cgroups.usage(`${root}/kubepods`)).memory?.limitBytes, 512 * MiB);
  assert.equal((await cgroups.details(`${root}/kubepods`)).pids?.limit, 1000);
  assert.deepEqual((await cgroups.children(`${root}/kubepods`)).toSorted(), ['besteffort', 'burstable']);
  await pods.ensureRoot(ctx, { cpuMilli: 2000, memoryBytes: 256 * MiB });
  assert.equal((await cgroups.usage(`${root}/kubepods`)).memory?.limitBytes, 256 * MiB);
});

test('each class of pod has its place and its limits', async () => {
  const all = { cpu: '500m', memory: '32Mi' };
  assert.equal(await pods.ensurePod(pod('g-1', all, all)), `${root}/kubepods/podg-1`);
  assert.equal(await pods.ensurePod(pod('b-1', { cpu: '100m' }, { memory: '16Mi' })), `${root}/kubepods/burstable/podb-1`);
  assert.equal(await pods.ensurePod(pod('e-1', {})), `${root}/kubepods/besteffort/pode-1`);
  assert.deepEqual((await pods.list()).toSorted(), ['b-1', 'e-1', 'g-1']);
  assert.equal(weightOfBurstable(), cgroups.version === 2 ? '17' : '102', 'the tier weighs what its pods request');
  assert.equal((await cgroups.usage(`${root}/kubepods/podg-1`)).memory?.limitBytes, 32 * MiB);
  assert.equal((await cgroups.usage(`${root}/kubepods/burstable/podb-1`)).memory?.limitBytes, 16 * MiB);
  assert.equal((await cgroups.details(`${root}/kubepods/besteffort/pode-1`)).pids?.limit, 40);
});

test('a group that someone removed is made again, and changed limits are written', async () => {
  await cgroups.remove(ctx, `${root}/kubepods/burstable/podb-1`);
  await pods.ensurePod(pod('b-1', { cpu: '100m' }, { memory: '16Mi' }));
  await pods.ensurePod(pod('b-1', { cpu: '100m' }, { memory: '24Mi' }));
  assert.equal((await cgroups.usage(`${root}/kubepods/burstable/podb-1`)).memory?.limitBytes, 24 * MiB);
});

test('removing a pod kills what it left running, and an unknown pod is no complaint', async () => {
  const group = `${root}/kubepods/burstable/podb-1/container`;
  await cgroups.create(group);
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  assert.ok(child.pid !== undefined);
  const exit = once(child, 'exit');
  await cgroups.attach(group, child.pid);
  await pods.removePod(ctx, 'b-1');
  assert.equal((await exit)[1], 'SIGKILL');
  await pods.removePod(ctx, 'b-1');
  await pods.removePod(ctx, 'never-seen');
  assert.equal(weightOfBurstable(), cgroups.version === 2 ? '1' : '2');
  assert.deepEqual((await pods.list()).toSorted(), ['e-1', 'g-1']);
});

test('another life of the agent finds the pods of this one and takes everything away', async () => {
  const next = new PodCgroups(cgroups, { driver: 'cgroupfs', cgroupRoot: root });
  await next.ensureRoot(ctx, { cpuMilli: 1000, memoryBytes: 256 * MiB });
  assert.deepEqual((await next.list()).toSorted(), ['e-1', 'g-1']);
  await next.removeAll(ctx);
  assert.deepEqual(await cgroups.children(root), []);
});
