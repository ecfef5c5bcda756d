/** What is pure about containers: filters, messages, families of processes, propagation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Container, ContainerConfig, ContainerFilter, ContainerState, type DeepPartial, Signal } from '#cri-api';
import { parseMountinfo } from '#host/mountinfo.ts';
import { heldBy } from '../oci/monitor-group.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import { asContainerId, asSandboxId } from '../state/ids.ts';
import { familyOf } from './kill-tree.ts';
import { containerEncoder, listContainers } from './list.ts';
import { propagationOf } from './sources.ts';
import { containerStatus } from './status.ts';

const record = (rest: Partial<ContainerRecord>): ContainerRecord => ({
  version: 1, id: asContainerId('c1'), sandboxId: asSandboxId('s1'), name: 'n', config: ContainerConfig.fromPartial({ labels: { app: 'web' }, image: { image: 'sha256:1' } }),
  image: { id: 'sha256:1', ref: 'web:1', layers: [] }, runtimeHandler: 'runc', bundleDir: '/c1', logPath: '/l', cgroupPath: '/g', stopSignal: 10, user: undefined, resources: undefined,
  process: undefined, monitor: undefined, state: { name: 'created', createdAtNs: 1n }, owns: [], ...rest,
});
const running = record({ id: asContainerId('c2'), sandboxId: asSandboxId('s2'), config: ContainerConfig.create(), state: { name: 'running', createdAtNs: 1n, startedAtNs: 2n } });
const half = record({ id: asContainerId('c3'), state: { name: 'making', createdAtNs: 1n } });

const filters: [DeepPartial<ContainerFilter> | undefined, string[]][] = [
  [undefined, ['c1', 'c2']],
  [{}, ['c1', 'c2']],
  [{ id: 'c2' }, ['c2']],
  [{ state: { state: ContainerState.CONTAINER_CREATED } }, ['c1']],
  [{ podSandboxId: 's2' }, ['c2']],
  [{ labelSelector: { app: 'web' } }, ['c1']],
  [{ labelSelector: { app: 'db' } }, []],
  [{ id: 'c1', podSandboxId: 's2' }, []],
];
for (const [filter, ids] of filters) {
  test(`containers listed with ${JSON.stringify(filter)}: ${ids.join(', ')}`, () => {
    const listed = listContainers([record({}), running, half], filter && ContainerFilter.fromPartial(filter), ({ id }) => id);
    assert.deepEqual(listed, ids);
  });
}

test('the message of a record is kept until the record or the digest of its image is another', () => {
  let digest = 'web@sha256:2';
  const encode = containerEncoder(() => digest);
  const first = encode(running);
  assert.equal(Container.decode(first).imageRef, digest);
  assert.equal(encode(running), first);
  digest = 'web@sha256:3';
  assert.equal(Container.decode(encode(running)).imageRef, digest);
  assert.equal(Container.decode(encode({ ...running, state: { name: 'created', createdAtNs: 1n } })).state, ContainerState.CONTAINER_CREATED);
});

test('a status has the user’s image name, the id and the digest the image came by, and the stop signal as the CRI numbers it', () => {
  const status = containerStatus(record({}), () => 'web@sha256:2');
  assert.deepEqual([status.image?.image, status.imageId, status.imageRef, status.stopSignal], ['web:1', 'sha256:1', 'web@sha256:2', Signal.SIGNAL_SIGUSR1]);
});

test('the family of a process is its descendants and its session, and those of whom it lost', () => {
  const relations = [
    { pid: 10, parentPid: 1, session: 10 },
    { pid: 11, parentPid: 10, session: 11 },
    { pid: 12, parentPid: 11, session: 11 },
    { pid: 13, parentPid: 1, session: 10 },
    { pid: 14, parentPid: 9, session: 9 },
    { pid: 20, parentPid: 1, session: 20 },
  ];
  assert.deepEqual([...familyOf(10, [9], relations)].toSorted((a, b) => a - b), [9, 10, 11, 12, 13, 14]);
});

test('a path has the propagation of the mount it lies on', () => {
  const table = parseMountinfo(['1 0 0:1 / / rw shared:1 - ext4 a rw', '2 1 0:2 / /data rw master:3 - ext4 b rw', '3 1 0:3 / /data/own rw - ext4 c rw'].join('\n'));
  const paths = ['/x', '/data', '/data/x', '/data/own/x', '/datax'];
  assert.deepEqual(paths.map((path) => propagationOf(path, table)), ['shared', 'slave', 'slave', 'private', 'shared']);
});

test('only who is at the root of every hierarchy is held by no service manager', () => {
  assert.deepEqual(heldBy('0::/\n'), []);
  assert.deepEqual(heldBy('3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n'), []);
  assert.deepEqual(heldBy('4:cpu,cpuacct:/a\n1:name=systemd:/system.slice/nodelet.service\n0::/\n'), ['cpu', 'cpuacct', 'name=systemd']);
});
