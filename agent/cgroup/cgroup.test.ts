/** Names, classes and limits of pods, as the kubelet computes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import type { Container, Pod } from '../kube/types.ts';
import { groupNames } from './names.ts';
import { oomScoreAdjust } from './oom-score.ts';
import { allocatableOf, cpuQuotaUsOf, cpuSharesOf, kubepodsResources, podCgroupResources } from './pod-limits.ts';
import { qosClassOf } from './qos.ts';

type List = Record<string, string>;
const container = (requests?: List, limits?: List, more: Partial<Container> = {}): Container => ({
  name: 'c', ...more, resources: { ...(requests && { requests }), ...(limits && { limits }) },
});
const podOf = (containers: Container[], spec: Partial<NonNullable<Pod['spec']>> = {}): Pod => ({ metadata: { uid: 'u' }, spec: { containers, ...spec } });
const both = { cpu: '500m', memory: '64Mi' };
const guaranteed = container(both, both);
const options = { cpuCfsQuota: true, podPidsLimit: -1, hugepageSizes: [] };
const MiB = 1 << 20;

const classes: [string, Pod, string][] = [
  ['nothing anywhere', podOf([container()]), 'BestEffort'],
  ['only a resource that does not count', podOf([container({ 'example.com/gpu': '1' }, { 'example.com/gpu': '1' })]), 'BestEffort'],
  ['zero is nothing', podOf([container({ cpu: '0' })]), 'BestEffort'],
  ['limits equal to requests in another spelling', podOf([container({ cpu: '0.5', memory: '65536Ki' }, both)]), 'Guaranteed'],
  ['limits alone are their own requests', podOf([container(undefined, both)]), 'Guaranteed'],
  ['cpu alone', podOf([container({ cpu: '1' }, { cpu: '1' })]), 'Burstable'],
  ['requests below limits', podOf([container({ cpu: '100m', memory: '64Mi' }, both)]), 'Burstable'],
  ['one container with and one without', podOf([guaranteed, container()]), 'Burstable'],
  ['an init container without', podOf([guaranteed], { initContainers: [container()] }), 'Burstable'],
  ['the pod as a whole decides when it has resources', podOf([container()], { resources: { requests: both, limits: both } }), 'Guaranteed'],
  ['what the status says stays', { ...podOf([guaranteed]), status: { qosClass: 'Burstable' } }, 'Burstable'],
];
for (const [name, pod, want] of classes) test(`QoS class: ${name} → ${want}`, () => assert.equal(qosClassOf(pod), want));

test('milli-CPUs as shares and as quota, with the kernel\'s bounds', () => {
  for (const [milli, shares] of [[0, 2], [1, 2], [100, 102], [250, 256], [1000, 1024], [500_000, 262_144]] as const) assert.equal(cpuSharesOf(milli), shares, `${milli}m`);
  for (const [milli, quota] of [[0, 0], [1, 1000], [10, 1000], [200, 20_000], [1500, 150_000]] as const) assert.equal(cpuQuotaUsOf(milli), quota, `${milli}m`);
});

const limits: [string, Pod, object][] = [
  ['BestEffort: the least weight, no limit', podOf([container()]), { cpuShares: 2 }],
  ['Guaranteed: all of it', podOf([guaranteed]), { cpuShares: 512, cpuQuotaUs: 50_000, cpuPeriodUs: 100_000, memoryLimitBytes: 64 * MiB }],
  ['Burstable: requests only', podOf([container({ cpu: '100m', memory: '10Mi' })]), { cpuShares: 102 }],
  [
    'a container without a memory limit frees the pod of one',
    podOf([container({ cpu: '1' }, { cpu: '2', memory: '10Mi' }), container({ cpu: '1' }, { cpu: '2' })]),
    { cpuShares: 2048, cpuQuotaUs: 400_000, cpuPeriodUs: 100_000 },
  ],
  [
    'an init container may need more than all others together; its limit counts too',
    podOf([container({ cpu: '100m' }, { memory: '10Mi' })], { initContainers: [container({ cpu: '1' }, { memory: '50Mi' })] }),
    { cpuShares: 1024, memoryLimitBytes: 50 * MiB },
  ],
  [
    'sidecars run beside the others and beside later init containers',
    podOf([container({ cpu: '100m' })], {
      initContainers: [container({ cpu: '900m' }), container({ cpu: '200m' }, undefined, { restartPolicy: 'Always' }), container({ cpu: '800m' })],
    }),
    { cpuShares: 1024 },
  ],
  [
    'overhead is added to requests always and to limits where there are any',
    podOf([container({ cpu: '500m' }, { memory: '10Mi' })], { overhead: { cpu: '500m', memory: '6Mi' } }),
    { cpuShares: 1024, memoryLimitBytes: 16 * MiB },
  ],
  [
    'pod-level limits stand for those of the containers',
    podOf([container({ cpu: '100m' }), container()], { resources: { requests: { cpu: '1' }, limits: { cpu: '2', memory: '1Gi' } } }),
    { cpuShares: 1024, cpuQuotaUs: 200_000, cpuPeriodUs: 100_000, memoryLimitBytes: 1024 * MiB },
  ],
];
for (const [name, pod, want] of limits) test(`pod limits: ${name}`, () => assert.deepEqual(podCgroupResources(pod, options), want));

test('pod limits: without CFS quotas, limits of CPU are lifted; processes and huge pages when the node has them', () => {
  const pod = podOf([container({ ...both, 'hugepages-2Mi': '4Mi' }, { ...both, 'hugepages-2Mi': '4Mi' })]);
  assert.deepEqual(podCgroupResources(pod, { cpuCfsQuota: false, podPidsLimit: 100, hugepageSizes: ['2MB', '1GB'] }), {
    cpuShares: 512, cpuQuotaUs: -1, cpuPeriodUs: 100_000, memoryLimitBytes: 64 * MiB, pidsLimit: 100, hugepages: { '2MB': 4 * MiB, '1GB': 0 },
  });
});

test('allocatable is what the system does not keep for itself, never below zero', () => {
  const capacity = { cpuMilli: 2000, memoryBytes: 1000 * MiB };
  assert.deepEqual(allocatableOf(capacity, { cpu: '100m', memory: '100Mi', pid: '50' }, { memory: '1Gi' }), { cpuMilli: 1900, memoryBytes: 0, pids: undefined });
  assert.deepEqual(kubepodsResources({ cpuMilli: 1900, memoryBytes: 5, pids: 9 }), { cpuShares: 1945, memoryLimitBytes: 5, pidsLimit: 9 });
  assert.deepEqual(allocatableOf({ ...capacity, pids: 100 }, { pid: '50' }).pids, 50);
});

test('names of groups for both drivers, with and without a prefix', () => {
  const uid = '0a1b-2c3d';
  const fs = groupNames('cgroupfs');
  assert.equal(fs.kubepods.path, '/kubepods');
  assert.deepEqual(fs.pod('Guaranteed', uid), { path: '/kubepods/pod0a1b-2c3d', cgroupParent: '/kubepods/pod0a1b-2c3d' });
  assert.equal(fs.pod('Burstable', uid).path, '/kubepods/burstable/pod0a1b-2c3d');
  assert.equal(groupNames('cgroupfs', '/a/b').tier('BestEffort').path, '/a/b/kubepods/besteffort');
  const systemd = groupNames('systemd', '/kubelet');
  assert.deepEqual(systemd.pod('BestEffort', uid), {
    path: '/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod0a1b_2c3d.slice',
    cgroupParent: 'kubelet-kubepods-besteffort-pod0a1b_2c3d.slice',
  });
  assert.deepEqual(groupNames('systemd').kubepods, { path: '/kubepods.slice', cgroupParent: 'kubepods.slice' });
});

test('the pod of a group is read back from its name; other groups are nobody\'s', () => {
  for (const driver of ['cgroupfs', 'systemd'] as const) {
    const names = groupNames(driver, '/x-y');
    for (const qosClass of ['Guaranteed', 'Burstable', 'BestEffort'] as const) {
      const group = names.pod(qosClass, '1-2-3').path.split('/').at(-1) ?? '';
      assert.equal(names.uidOf(qosClass, group), '1-2-3', `${driver} ${qosClass}`);
    }
    for (const other of ['burstable', 'x_y-kubepods-burstable.slice', 'system.slice', 'pod']) assert.equal(names.uidOf('Guaranteed', other), undefined, other);
  }
});

test('a root or uid that cannot be part of a group\'s name is refused', () => {
  for (const make of [() => groupNames('cgroupfs', '/../x'), () => groupNames('systemd', '/a_b'), () => groupNames('cgroupfs').pod('Burstable', '../x'), () => groupNames('cgroupfs').pod('Burstable', '')]) {
    assert.throws(make, (error) => isFault(error, 'invalid'));
  }
});

test('oom scores: the more of the node\'s memory a container requests, the later it goes', () => {
  const capacity = 1000 * MiB;
  const score = (pod: Pod, index = 0): number => {
    const found = pod.spec?.containers[index];
    assert.ok(found);
    return oomScoreAdjust(pod, found, capacity);
  };
  const burstable = (memory: string): Pod => podOf([container({ memory })]);
  assert.equal(score(podOf([guaranteed])), -997);
  assert.equal(score(podOf([container()])), 1000);
  assert.equal(score(podOf([container({ cpu: '1' })])), 999);
  assert.equal(score(burstable('100Mi')), 900);
  assert.equal(score(burstable('999Mi')), 3);
  assert.equal(score(burstable('5Gi')), 3);
  assert.equal(score(podOf([container()], { priorityClassName: 'system-node-critical', priority: 2_000_001_000 })), -997);
  assert.equal(score(podOf([container()], { priorityClassName: 'system-node-critical', priority: 5 })), 1000);
  const sidecar = container({ memory: '10Mi' }, undefined, { name: 's', restartPolicy: 'Always' });
  assert.equal(oomScoreAdjust(podOf([container({ memory: '100Mi' }), container({ memory: '200Mi' })], { initContainers: [sidecar] }), sidecar, capacity), 900);
  const podLevel = podOf([container({ memory: '100Mi' }), container()], { resources: { requests: { memory: '300Mi' } } });
  assert.equal(score(podLevel), 800);
  assert.equal(score(podLevel, 1), 900);
});
