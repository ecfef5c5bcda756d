/** The small rules of specifications: signals, capabilities, arguments, seccomp, limits, devices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Capability, ContainerConfig, type DeepPartial, LinuxContainerResources, LinuxContainerSecurityContext, Signal } from '#cri-api';
import { allCapabilities, capabilitiesInMask, capabilitySets, defaultCapabilities } from './capabilities.ts';
import { deviceNumbers } from './devices.ts';
import { processArgs, processEnv } from './process.ts';
import { cgroupResources, mergedResources, ociResources, oomScoreAdj } from './resources.ts';
import { defaultSeccomp, parseSeccomp, seccompChoice } from './seccomp.ts';
import { criSignal, linuxSignal, parseSignal, stopSignalOf } from './signals.ts';

test('signals of images are names or numbers, with or without SIG, real-time ones too', () => {
  const texts = ['SIGTERM', 'term', '9', 'SIGRTMIN', 'RTMIN+3', 'SIGRTMAX-1', 'SIGCLD'];
  assert.deepEqual(texts.map(parseSignal), [15, 15, 9, 34, 37, 63, 17]);
  for (const wrong of ['', 'SIGFOO', '0', '65', 'RTMIN-1', 'RTMAX+1']) assert.throws(() => parseSignal(wrong), { kind: 'invalid' });
});

test('signals of the CRI are not Linux numbers, and go there and back', () => {
  assert.deepEqual([linuxSignal(Signal.SIGNAL_SIGTERM), linuxSignal(Signal.SIGNAL_SIGKILL), linuxSignal(Signal.SIGNAL_SIGRTMAXMINUS2)], [15, 9, 62]);
  for (let number = 1; number <= 31; number++) assert.equal(linuxSignal(criSignal(number)), number);
});

test('the stop signal is the config’s, else the image’s, else SIGTERM', () => {
  assert.equal(stopSignalOf({ stopSignal: Signal.SIGNAL_SIGUSR1 }, { stopSignal: 'SIGQUIT' }), 10);
  assert.equal(stopSignalOf({ stopSignal: Signal.SIGNAL_RUNTIME_DEFAULT }, { stopSignal: 'SIGQUIT' }), 3);
  assert.equal(stopSignalOf({ stopSignal: Signal.SIGNAL_RUNTIME_DEFAULT }, { stopSignal: 'nonsense' }), 15);
});

const capabilities = (wanted: DeepPartial<Capability>, held = allCapabilities): readonly string[] =>
  capabilitySets(Capability.fromPartial(wanted), { privileged: false, held }).effective;

test('ALL is added or dropped first, single names afterwards', () => {
  assert.deepEqual(new Set(capabilities({})), new Set(defaultCapabilities));
  assert.deepEqual(capabilities({ dropCapabilities: ['ALL'], addCapabilities: ['net_admin'] }), ['CAP_NET_ADMIN']);
  assert.deepEqual(capabilities({ addCapabilities: ['ALL'], dropCapabilities: ['CHOWN'] }), allCapabilities.slice(1));
});

test('nothing is granted that the daemon does not hold', () => {
  const held = allCapabilities.filter((name) => name !== 'CAP_SYS_RESOURCE');
  assert.deepEqual(capabilities({ addCapabilities: ['ALL'] }, held), held);
  assert.deepEqual(capabilitySets(undefined, { privileged: true, held }).bounding, held);
  assert.deepEqual(capabilitiesInMask('000001fffeffffff'), held);
});

test('ambient capabilities are in all five sets, others never in the ambient one', () => {
  const sets = capabilitySets(Capability.fromPartial({ dropCapabilities: ['ALL'], addAmbientCapabilities: ['NET_ADMIN'] }), { privileged: false, held: allCapabilities });
  assert.deepEqual(Object.values(sets), Array.from({ length: 5 }, () => ['CAP_NET_ADMIN']));
  assert.equal('ambient' in capabilitySets(undefined, { privileged: false, held: allCapabilities }), false);
});

test('a command drops the image’s, arguments alone replace its arguments', () => {
  const image = { entrypoint: ['e'], cmd: ['c'] };
  const args = (config: object): string[] => processArgs(ContainerConfig.fromPartial(config), image);
  assert.deepEqual([args({}), args({ args: ['a'] }), args({ command: ['x'] }), args({ command: ['x'], args: ['a'] })], [['e', 'c'], ['e', 'a'], ['x'], ['x', 'a']]);
});

test('the environment is defaults, then the image’s, then the config’s', () => {
  const env = processEnv({ hostname: 'h', tty: false, image: ['PATH=/x', 'A=1', 'NOVALUE'], envs: [{ key: 'A', value: Buffer.from('2=3') }] });
  assert.deepEqual(env, ['PATH=/x', 'HOSTNAME=h', 'A=2=3']);
});

const context = (partial: DeepPartial<LinuxContainerSecurityContext>): LinuxContainerSecurityContext => LinuxContainerSecurityContext.fromPartial(partial);

test('no seccomp profile means none, an empty one the default, and privileged never has one', () => {
  assert.deepEqual(seccompChoice(context({})), { kind: 'unconfined' });
  assert.deepEqual(seccompChoice(context({ seccomp: {} })), { kind: 'default' });
  assert.deepEqual(seccompChoice(context({ seccomp: {}, privileged: true })), { kind: 'unconfined' });
  assert.deepEqual(seccompChoice(context({ seccompProfilePath: 'localhost//p.json' })), { kind: 'file', path: '/p.json' });
  assert.deepEqual(seccompChoice(context({ seccompProfilePath: 'localhost//p', seccomp: {} })), { kind: 'default' });
  assert.throws(() => seccompChoice(context({ seccomp: { profileType: 2, localhostRef: 'p.json' } })), { kind: 'invalid' });
});

test('the default profile opens what a capability allows and keeps namespaces closed without CAP_SYS_ADMIN', () => {
  const architectures = (...abis: string[]): readonly string[] | undefined => defaultSeccomp({ capabilities: [], arch: 'x64', abis }).architectures;
  assert.deepEqual([architectures(), architectures('SCMP_ARCH_X86')], [['SCMP_ARCH_X86_64'], ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86']]);
  const names = (held: string[]): Set<string> => new Set(defaultSeccomp({ capabilities: held, arch: 'x64', abis: [] }).syscalls?.filter(({ args, action }) => args === undefined && action === 'SCMP_ACT_ALLOW').flatMap((rule) => rule.names));
  assert.equal(names([]).has('mount'), false);
  assert.equal(names([]).has('clone'), false);
  assert.equal(names(['CAP_SYS_ADMIN']).has('clone'), true);
  assert.equal(names(['CAP_SYS_CHROOT']).has('chroot'), true);
  assert.equal(names([]).has('arch_prctl'), true);
});

test('a profile file without a default action is refused with its name', () => {
  assert.throws(() => parseSeccomp('{}', '/p.json'), /\/p\.json: defaultAction/);
  assert.throws(() => parseSeccomp('[', '/p.json'), /\/p\.json: not JSON/);
});

const v2 = { cgroupVersion: 2, controllers: new Set<string>(), swapAccounting: true } as const;
const v1 = { ...v2, cgroupVersion: 1 } as const;
const resources = (partial: DeepPartial<LinuxContainerResources>): LinuxContainerResources => LinuxContainerResources.fromPartial(partial);

test('a memory limit forbids swap beyond it unless the kubelet says how much', () => {
  assert.deepEqual(ociResources(resources({ memoryLimitInBytes: 5n }), v2).memory, { limit: 5, swap: 5 });
  assert.deepEqual(ociResources(resources({ memoryLimitInBytes: 5n, memorySwapLimitInBytes: 8n }), v2).memory, { limit: 5, swap: 8 });
  assert.deepEqual(ociResources(resources({ memoryLimitInBytes: 5n }), { ...v2, swapAccounting: false }).memory, { limit: 5 });
});

test('unified files are for v2; of them v1 knows pids.max', () => {
  assert.deepEqual(ociResources(resources({ unified: { 'pids.max': '7' } }), v1), { pids: { limit: 7 } });
  assert.throws(() => ociResources(resources({ unified: { 'memory.high': '7' } }), v1), /memory\.high/);
  assert.deepEqual(cgroupResources(resources({ unified: { 'memory.high': '7' } }), v2).unified, { 'memory.high': '7' });
});

test('an update leaves what it does not name', () => {
  const merged = mergedResources(resources({ cpuShares: 5n, unified: { a: '1' } }), resources({ memoryLimitInBytes: 7n, unified: { b: '2' } }));
  assert.deepEqual([merged.cpuShares, merged.memoryLimitInBytes, merged.unified], [5n, 7n, { a: '1', b: '2' }]);
});

test('the OOM score stays within what we may give', () => {
  assert.deepEqual([oomScoreAdj(-998n, 0), oomScoreAdj(-998n, -1000), oomScoreAdj(5000n, 0), oomScoreAdj(undefined, 0)], [0, -998, 1000, 0]);
});

test('device numbers are taken apart as makedev(3) puts them together', () => {
  assert.deepEqual(deviceNumbers(0x0105n), { major: 1, minor: 5 });
  assert.deepEqual(deviceNumbers((259n << 8n) | 0x34n | (0x12n << 20n)), { major: 259, minor: 0x1234 });
});
