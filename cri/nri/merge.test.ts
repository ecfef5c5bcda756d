/** What several plugins want of one container: merged, or in conflict. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { Container, ContainerAdjustment, ContainerUpdate, type DeepPartial, Field, LinuxResources } from './gen/api.ts';
import { Merge } from './merge.ts';

const container = Container.fromPartial({
  id: 'c1',
  args: ['sh'],
  env: ['A=1', 'B=2'],
  annotations: { old: 'x' },
  mounts: [{ destination: '/data', type: 'bind', source: '/host', options: ['bind'] }],
  linux: { devices: [{ path: '/dev/a', type: 'c' }], namespaces: [{ type: 'network', path: '/ns' }] },
});
type Adjustment = DeepPartial<ContainerAdjustment>;
const merged = (...asked: readonly Adjustment[]): Merge => {
  const merge = new Merge({ container }, 'create');
  asked.forEach((adjust, i) => merge.apply(`0${i}-p`, { adjust: ContainerAdjustment.fromPartial(adjust), update: [] }));
  return merge;
};

const conflicts: readonly { name: string; first: Adjustment; second?: Adjustment; says: string }[] = [
  { name: 'an annotation', first: { annotations: { k: '1' } }, second: { annotations: { k: '2' } }, says: 'Annotations k' },
  { name: 'a mount', first: { mounts: [{ destination: '/m' }] }, says: 'Mounts /m' },
  { name: 'a variable', first: { env: [{ key: 'A', value: '3' }] }, says: 'Env A' },
  { name: 'the arguments', first: { args: ['x'] }, says: 'Args' },
  { name: 'a device', first: { linux: { devices: [{ path: '/dev/b', type: 'c' }] } }, says: 'Devices /dev/b' },
  { name: 'a CDI device', first: { CDIDevices: [{ name: 'v/c=d' }] }, says: 'CdiDevices v/c=d' },
  { name: 'an rlimit', first: { rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1n, soft: 1n }] }, says: 'Rlimits RLIMIT_NOFILE' },
  { name: 'memory', first: { linux: { resources: { memory: { limit: { value: 1n } } } } }, says: 'MemLimit' },
  { name: 'cpus', first: { linux: { resources: { cpu: { cpus: '0' } } } }, says: 'CPUSetCPUs' },
  { name: 'the number of processes', first: { linux: { resources: { pids: { limit: 5n } } } }, says: 'PidsLimit' },
  { name: 'huge pages', first: { linux: { resources: { hugepageLimits: [{ pageSize: '2MB', limit: 1n }] } } }, says: 'HugepageLimits 2MB' },
  { name: 'a unified key', first: { linux: { resources: { unified: { 'memory.high': '1' } } } }, says: 'CgroupsUnified memory.high' },
  { name: 'the group', first: { linux: { cgroupsPath: '/a' } }, says: 'CgroupsPath' },
  { name: 'the OOM score', first: { linux: { oomScoreAdj: { value: 1n } } }, says: 'OomScoreAdj' },
  { name: 'I/O priority', first: { linux: { ioPriority: { class: 1, priority: 1 } } }, says: 'IoPriority' },
  { name: 'seccomp', first: { linux: { seccompPolicy: { defaultAction: 'SCMP_ACT_ALLOW' } } }, says: 'SeccompPolicy' },
  { name: 'a namespace', first: { linux: { namespaces: [{ type: 'ipc' }] } }, second: { linux: { namespaces: [{ type: '-ipc' }] } }, says: 'Namespace ipc' },
  { name: 'a sysctl', first: { linux: { sysctl: { 'net.x': '1' } } }, says: 'Sysctl net.x' },
  { name: 'a network device', first: { linux: { netDevices: { eth1: { name: 'e' } } } }, says: 'LinuxNetDevices eth1' },
  { name: 'the scheduler', first: { linux: { scheduler: { policy: 1 } } }, says: 'LinuxSched' },
  { name: 'RDT', first: { linux: { rdt: { closId: { value: 'x' } } } }, says: 'RdtClosID' },
  { name: 'memory policy', first: { linux: { memoryPolicy: { mode: 1 } } }, says: 'MemoryPolicy' },
];
for (const { name, first, second, says } of conflicts) {
  test(`two plugins that set ${name} are in conflict`, () => {
    assert.throws(() => merged(first, second ?? first), (error) => isFault(error, 'invalid') && error.message.endsWith(`both tried to set ${says}`) && /00-p.*01-p|01-p.*00-p/.test(error.message));
  });
}

test('hooks of several plugins add up, and all own them', () => {
  const merge = merged({ hooks: { prestart: [{ path: '/a' }] } }, { hooks: { prestart: [{ path: '/b' }], poststop: [{ path: '/c' }] } });
  assert.deepEqual(merge.adjust.hooks?.prestart.map(({ path }) => path), ['/a', '/b']);
  assert.deepEqual(merge.adjust.hooks?.poststop.map(({ path }) => path), ['/c']);
  assert.equal(merge.owners.of('c1', Field.OciHooks).get('')?.plugin, '00-p,01-p');
});

test('each plugin sees what those before it changed', () => {
  const merge = merged({
    env: [{ key: 'A', value: '9' }, { key: '-B' }], args: ['run'], annotations: { new: 'y', '-old': '' }, mounts: [{ destination: '-/data' }, { destination: '/new', type: 'tmpfs' }],
    linux: { devices: [{ path: '/dev/b', type: 'c' }], namespaces: [{ type: '-network' }, { type: 'ipc', path: '/i' }], resources: { cpu: { shares: { value: 7n } } }, oomScoreAdj: { value: 3n } },
  });
  const { env, args, annotations, mounts, linux } = merge.container;
  assert.deepEqual({ env, args, annotations }, { env: ['A=9'], args: ['run'], annotations: { new: 'y' } });
  assert.deepEqual(mounts.map(({ destination }) => destination), ['/new']);
  assert.deepEqual(linux?.devices.map(({ path }) => path), ['/dev/a', '/dev/b']);
  assert.deepEqual(linux?.namespaces, [{ type: 'ipc', path: '/i' }]);
  assert.deepEqual([linux?.resources?.cpu?.shares?.value, linux?.oomScoreAdj?.value], [7n, 3n]);
  // as it was, for the validators
  assert.deepEqual(container.env, ['A=1', 'B=2']);
});

test('who takes away what another set may set it itself, and nobody else', () => {
  const set: Adjustment = { env: [{ key: 'X', value: '1' }] };
  const over: Adjustment = { env: [{ key: '-X' }, { key: 'X', value: '2' }] };
  assert.deepEqual(merged(set, over).adjust.env.filter(({ key }) => key === 'X'), [{ key: 'X', value: '2' }]);
  assert.throws(() => merged(set, { env: [{ key: '-X' }] }, set), (error) => isFault(error, 'invalid'));
  assert.deepEqual(merged({ args: ['a'] }, { args: ['', 'b'] }).adjust.args, ['b']);
});

test('updates of one container by two plugins are one update, and conflicts are overlooked only where the plugin says so', () => {
  const update = (limit: bigint | undefined, cpus: string, ignoreFailure = false): ContainerUpdate =>
    ContainerUpdate.fromPartial({ containerId: 'c2', ignoreFailure, linux: { resources: { memory: limit === undefined ? undefined : { limit: { value: limit } }, cpu: { cpus } } } });
  const merge = new Merge({ container }, 'stop');
  merge.apply('a', { update: [update(5n, '')] });
  merge.apply('b', { update: [update(undefined, '0-1')] });
  merge.apply('c', { update: [update(9n, '', true)] });
  assert.equal(merge.updates.length, 1);
  assert.deepEqual([merge.updates[0]?.linux?.resources?.memory?.limit?.value, merge.updates[0]?.linux?.resources?.cpu?.cpus], [5n, '0-1']);
  assert.throws(() => merge.apply('d', { update: [update(9n, '')] }), (error) => isFault(error, 'invalid'));
});

test('an update of the container that is being created is refused', () => {
  const update = ContainerUpdate.fromPartial({ containerId: 'c1', linux: { resources: {} } });
  assert.throws(() => new Merge({ container }, 'create').apply('p', { update: [update] }), /being created/);
});

test('what plugins change of an update goes into the update itself', () => {
  const resources = LinuxResources.fromPartial({ cpu: { shares: { value: 2n } } });
  const merge = new Merge({ container, resources }, 'update');
  assert.equal(merge.isResourcesChanged, false);
  merge.apply('p', { update: [ContainerUpdate.fromPartial({ containerId: 'c1', linux: { resources: { cpu: { cpus: '1' } } } })] });
  assert.deepEqual([merge.resources?.cpu?.shares?.value, merge.resources?.cpu?.cpus, merge.isResourcesChanged, merge.updates.length], [2n, '1', true, 0]);
});

test('owners are told as NRI writes them', () => {
  const { owners } = merged({ env: [{ key: 'X', value: '1' }], args: ['a'] }, { env: [{ key: '-X' }] });
  assert.deepEqual(owners.message(), { owners: { c1: { simple: { [Field.Args]: '00-p' }, compound: { [Field.Env]: { owners: { X: '-01-p' } } } } } });
});
