/** Command lines and answers of conmon and OCI runtimes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slowMoves } from '#host/cgroup-moves.ts';
import { cgroupPlace } from './cgroup-path.ts';
import { directly, hidingLine } from './cgroup-view.ts';
import { monitorArgs, parseSyncMessage } from './conmon.ts';
import { execProcess } from './exec.ts';
import { runtimeFeatures } from './features.ts';
import { parseVersion } from './probe.ts';
import { commandLine, type OciRuntime } from './runtime.ts';
import type { OciSpec } from './spec-types.ts';

const features = runtimeFeatures('runc 1.1.5', undefined);
const runtime: OciRuntime = { name: 'runc', path: '/usr/sbin/runc', rootDir: '/run/n/oci/runc', cgroupDriver: 'cgroupfs', version: 'runc 1.1.5', features, privilegedWithoutHostDevices: false, entry: directly, moves: slowMoves, timeoutMs: 60_000 };
const order = { id: 'abc', name: 'k8s_x', bundleDir: '/c/abc', logPath: '/l/0.log', tty: false, stdin: false, stdinOnce: false };
const paths = { conmon: '/usr/bin/conmon', socketsDir: '/run/n/conmon', exitsDir: '/run/n/exits' };

test('a group lies below its parent, or is a scope in its slice', () => {
  assert.deepEqual(cgroupPlace({ driver: 'cgroupfs', parent: '/kubepods/pod1', id: 'c' }), { cgroupsPath: '/kubepods/pod1/c', cgroupPath: '/kubepods/pod1/c' });
  assert.deepEqual(cgroupPlace({ driver: 'systemd', parent: '/kubepods.slice/kubepods-pod1.slice', id: 'c' }), {
    cgroupsPath: 'kubepods-pod1.slice:cri-nodelet:c',
    cgroupPath: '/kubepods.slice/kubepods-pod1.slice/cri-nodelet-c.scope',
  });
  for (const [driver, parent] of [['systemd', '/kubepods/pod1'], ['cgroupfs', '/a/../b']] as const) {
    assert.throws(() => cgroupPlace({ driver, parent, id: 'c' }), { kind: 'invalid' });
  }
});

test('the monitor gets stdin, a terminal and a log only when they are wanted', () => {
  const args = monitorArgs(paths, runtime, order);
  assert.equal(args.includes('--stdin') || args.includes('--terminal'), false);
  assert.equal(args[args.indexOf('--log-path') + 1], 'k8s-file:/l/0.log');
  const other = monitorArgs(paths, { ...runtime, cgroupDriver: 'systemd' }, { ...order, logPath: undefined, stdin: true, tty: true });
  for (const wanted of ['--stdin', '--leave-stdin-open', '--terminal', '--systemd-cgroup', 'none']) assert.ok(other.includes(wanted), wanted);
  assert.equal(monitorArgs(paths, runtime, { ...order, stdin: true, stdinOnce: true }).includes('--leave-stdin-open'), false);
});

test('messages of the monitor are read even when they are not quite JSON', () => {
  assert.deepEqual(parseSyncMessage('{"data": 42}'), { data: 42, message: '' });
  assert.deepEqual(parseSyncMessage('{"data": -1, "message": "runc: no \\"x\\""}'), { data: -1, message: 'runc: no "x"' });
  assert.deepEqual(parseSyncMessage('{"data": -1, "message": "bad \x1f byte"}'), { data: -1, message: 'bad \x1f byte' });
  assert.equal(parseSyncMessage(''), undefined);
});

test('an exec runs as the container does, with other arguments and TERM only on a terminal', () => {
  const process = { user: { uid: 5, gid: 6 }, args: ['a'], env: ['A=1'], cwd: '/', capabilities: { bounding: [], effective: [], permitted: [] } };
  const spec = { process } as unknown as OciSpec;
  assert.deepEqual(execProcess(spec, { args: ['b'] }), { ...process, args: ['b'], terminal: false });
  const terminal = { consoleSocket: '/s', size: { columns: 80, rows: 24 } };
  const withTerminal = execProcess(spec, { args: ['b'], terminal });
  assert.deepEqual([withTerminal.env, withTerminal.consoleSize], [['A=1', 'TERM=xterm'], { height: 24, width: 80 }]);
});

test('versions are read from both programs, and tell whether recursive read-only works', () => {
  assert.equal(parseVersion('runc version 1.1.5+ds1\ncommit: x\n'), 'runc 1.1.5+ds1');
  assert.equal(parseVersion('crun version 1.8.1\n'), 'crun 1.8.1');
  assert.deepEqual(['runc 1.0.3', 'runc 1.1.5', 'crun 1.3', 'crun 1.8.1', 'youki 0.5'].map((version) => runtimeFeatures(version, undefined).recursiveReadOnly), [false, true, false, true, false]);
});

test('what leads to a runtime comes before it, in the monitor\'s words too', () => {
  const entry = { create: ['/usr/bin/unshare', '--mount', '/bin/sh', '-c', 'umount x && exec "$@"', '-'], other: ['/usr/bin/nsenter', '--mount=/proc/1/fd/9'] };
  const crun = { ...runtime, path: '/usr/bin/crun', entry };
  assert.deepEqual(commandLine(crun, 'other', ['start', 'x']), { path: '/usr/bin/nsenter', args: ['--mount=/proc/1/fd/9', '/usr/bin/crun', 'start', 'x'] });
  const args = monitorArgs(paths, crun, order);
  assert.equal(args[args.indexOf('--runtime') + 1], '/usr/bin/unshare');
  assert.deepEqual(args.flatMap((word, i) => (word === '--runtime-arg' ? [args[i + 1]] : [])).slice(0, 6), [...entry.create.slice(1), '/usr/bin/crun']);
});

test('cgroup version 2 is hidden only beside version 1, and never from the host', () => {
  const v1 = { mountPoint: '/sys/fs/cgroup/pids', type: 'cgroup', propagation: [] };
  const v2 = { mountPoint: '/sys/fs/cgroup/unified', type: 'cgroup2', propagation: [] };
  assert.equal(hidingLine([v2]), undefined);
  assert.equal(hidingLine([v1]), undefined);
  assert.equal(hidingLine([v1, v2]), "umount '/sys/fs/cgroup/unified'");
  assert.equal(hidingLine([v1, { ...v2, mountPoint: "/a'b", propagation: ['shared:9'] }]), String.raw`mount --make-private '/a'\''b' && umount '/a'\''b'`);
});
