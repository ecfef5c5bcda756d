/** Order of stopping, changes between two relists, leftovers, what counts as a change of a pod, admission. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RuntimePod } from '../cri/observed.ts';
import type { Pod } from '../kube/types.ts';
import { admissionRefusal } from './admission.ts';
import { stopOrder, stopSeconds } from './grace.ts';
import { containerLeftovers } from './leftovers.ts';
import { container, podOf } from './observed.fake.ts';
import { changedPods } from './pleg-diff.ts';
import { PodSources, type PodChange } from './sources.ts';

test('containers stop together, sidecars after them and backwards', () => {
  const pod = podOf({
    initContainers: [container('i'), container('s1', { restartPolicy: 'Always' }), container('s2', { restartPolicy: 'Always' })],
    containers: [container('a'), container('b')],
  });
  assert.deepEqual(stopOrder(pod, ['a', 's1', 's2', 'b']), [['a', 'b'], ['s2'], ['s1']]);
  assert.deepEqual(stopOrder(pod, ['s1']), [['s1']]);
  assert.deepEqual(stopOrder(pod, []), []);
});

test('time spent in a hook is taken off the grace, but two seconds are always left', () => {
  assert.equal(stopSeconds(30, 12.4), 18);
  assert.equal(stopSeconds(5, 9), 2);
});

const runtimePod = (more: Partial<RuntimePod> = {}): RuntimePod => ({
  uid: 'u', namespace: 'ns', name: 'p',
  sandboxes: [{ id: 's', ready: true, createdAtNs: 1n }],
  containers: [{ id: 'c1', name: 'c', state: 'running', sandboxId: 's', createdAtNs: 2n }],
  ...more,
});

test('pods that came, went or changed are told, the others are not', () => {
  const before = new Map([['same', runtimePod()], ['exits', runtimePod()], ['goes', runtimePod()]]);
  const exited = runtimePod({ containers: [{ id: 'c1', name: 'c', state: 'exited', sandboxId: 's', createdAtNs: 2n }] });
  const now = new Map([['same', runtimePod()], ['exits', exited], ['comes', runtimePod()]]);
  assert.deepEqual(changedPods(before, now).toSorted(), ['comes', 'exits', 'goes']);
});

test('of a container its newest instance and one dead one stay, of the sandboxes the newest and those in use', () => {
  const dead = (id: string, at: bigint, sandboxId: string): RuntimePod['containers'][number] => ({ id, name: 'c', state: 'exited', sandboxId, createdAtNs: at });
  const pod = runtimePod({
    sandboxes: [{ id: 's3', ready: true, createdAtNs: 3n }, { id: 's2', ready: false, createdAtNs: 2n }, { id: 's1', ready: false, createdAtNs: 1n }],
    containers: [dead('c4', 4n, 's3'), dead('c3', 3n, 's2'), dead('c2', 2n, 's1'), dead('c1', 1n, 's1')],
  });
  assert.deepEqual(containerLeftovers(pod), { containers: ['c2', 'c1'], sandboxes: ['s1'] });
});

test('a source that starts again with fewer pods removes the missing; only status changes wake nobody', () => {
  const changes: string[] = [];
  const sources = new PodSources(['api', 'file'], (change: PodChange) => changes.push(`${change.type} ${change.pod.metadata?.uid}`));
  const one: Pod = podOf({}, { uid: 'one', resourceVersion: '1' });
  const two: Pod = podOf({}, { uid: 'two' });
  sources.sink('file').replace([]);
  assert.equal(sources.allSeen, false);
  sources.sink('api').replace([one, two]);
  assert.equal(sources.allSeen, true);
  sources.sink('api').upsert({ ...one, metadata: { ...one.metadata, resourceVersion: '2' }, status: { phase: 'Running' } });
  sources.sink('api').upsert({ ...one, metadata: { ...one.metadata, deletionTimestamp: 'now' } });
  sources.sink('api').replace([two]);
  assert.deepEqual(changes, ['wanted one', 'wanted two', 'refreshed one', 'wanted one', 'removed one', 'refreshed two']);
});

const asking = (cpu: string): Pod => podOf({ containers: [container('c', { resources: { requests: { cpu } } })] });
const admissions: [name: string, pod: Pod, want: string | undefined][] = [
  ['what fits is let in', asking('500m'), undefined],
  ['too much cpu', asking('1'), "OutOfcpu: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"],
  ['an unsafe sysctl', podOf({ securityContext: { sysctls: [{ name: 'kernel.msgmax', value: '1' }] } }), 'SysctlForbidden: forbidden sysctl: "kernel.msgmax" not allowlisted'],
  ['a safe sysctl', podOf({ securityContext: { sysctls: [{ name: 'net/ipv4/tcp_syncookies', value: '1' }] } }), undefined],
  ['another operating system', podOf({ os: { name: 'windows' } }), "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"],
];
for (const [name, pod, want] of admissions) {
  test(`admission: ${name}`, () => {
    const others = [podOf({ containers: [container('o', { resources: { requests: { cpu: '1500m' } } })] }, { uid: 'other' })];
    const refusal = admissionRefusal(pod, { allocatable: { cpu: '2', pods: '2' }, others, node: undefined });
    assert.equal(refusal === undefined ? undefined : `${refusal.reason}: ${refusal.message}`, want);
  });
}

test('admission: one pod more than the node takes', () => {
  const refusal = admissionRefusal(podOf(), { allocatable: { pods: '1' }, others: [podOf({}, { uid: 'other' })], node: undefined });
  assert.equal(refusal?.reason, 'OutOfpods');
});
