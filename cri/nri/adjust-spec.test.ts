/** What plugins change of a config.json, and what is forbidden by configuration. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { readSpec, writeSpec } from '../oci/spec-json.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import { type AdjustHost, adjustSpec } from './adjust-spec.ts';
import { rejection, type ValidatorConfig } from './default-validator.ts';
import { Container, ContainerAdjustment, type DeepPartial, PodSandbox } from './gen/api.ts';
import { Merge } from './merge.ts';

const none: readonly string[] = [];
const spec: OciSpec = {
  ociVersion: '1.0.2',
  process: { user: { uid: 0, gid: 0 }, args: ['sh'], env: ['PATH=/bin', 'A=1', 'B=2'], cwd: '/', capabilities: { bounding: none, effective: none, permitted: none } },
  root: { path: '/r' },
  mounts: [{ destination: '/proc', type: 'proc', source: 'proc', options: [] }, { destination: '/data/deep', type: 'bind', source: '/x', options: ['bind'] }],
  annotations: { a: '1', b: '2' },
  hooks: { prestart: [{ path: '/first' }] },
  linux: {
    namespaces: [{ type: 'mount' }, { type: 'network', path: '/ns' }], cgroupsPath: '/pod/c1',
    resources: { devices: [{ allow: false, access: 'rwm' }], cpu: { shares: 2, cpus: '0' }, memory: { limit: 5, swap: 5 } },
    devices: [{ path: '/dev/a', type: 'c', major: 1, minor: 2 }],
  },
};
const host: AdjustHost = { cgroupVersion: 2, controllers: new Set(['hugetlb']), swapAccounting: true, lowestOomScoreAdj: -10 };
const adjusted = (adjust: DeepPartial<ContainerAdjustment>, on: AdjustHost = host): OciSpec => adjustSpec(spec, ContainerAdjustment.fromPartial(adjust), on);

const changes: readonly { name: string; adjust: DeepPartial<ContainerAdjustment>; part: (spec: OciSpec) => unknown; is: unknown }[] = [
  { name: 'nothing', adjust: {}, part: (s) => s, is: { ...spec, linux: spec.linux } },
  { name: 'variables: set, added, taken away', adjust: { env: [{ key: 'A', value: '9' }, { key: '-B' }, { key: 'C', value: '3' }] }, part: (s) => s.process.env, is: ['PATH=/bin', 'A=9', 'C=3'] },
  { name: 'arguments', adjust: { args: ['run', 'it'] }, part: (s) => s.process.args, is: ['run', 'it'] },
  { name: 'annotations', adjust: { annotations: { '-a': '', b: '3' } }, part: (s) => s.annotations, is: { b: '3' } },
  {
    name: 'mounts, parents before children', adjust: { mounts: [{ destination: '/data', type: 'tmpfs', source: 'tmpfs' }, { destination: '-/proc' }] },
    part: (s) => s.mounts.map(({ destination }) => destination), is: ['/data', '/data/deep'],
  },
  { name: 'a mount that propagates', adjust: { mounts: [{ destination: '/m', options: ['rshared'] }], linux: {} }, part: (s) => s.linux.rootfsPropagation, is: 'rshared' },
  { name: 'hooks, after those that are there', adjust: { hooks: { prestart: [{ path: '/h', args: ['h'], timeout: { value: 3n } }] } }, part: (s) => s.hooks, is: { prestart: [{ path: '/first' }, { path: '/h', args: ['h'], timeout: 3 }] } },
  { name: 'an rlimit', adjust: { rlimits: [{ type: 'RLIMIT_CORE', hard: 2n ** 64n - 1n, soft: 0n }] }, part: (s) => s.process.rlimits, is: [{ type: 'RLIMIT_CORE', hard: 2n ** 64n - 1n, soft: 0n }] },
  { name: 'an OOM score below what may be given', adjust: { linux: { oomScoreAdj: { value: -900n } } }, part: (s) => s.process.oomScoreAdj, is: -10 },
  { name: 'I/O priority', adjust: { linux: { ioPriority: { class: 2, priority: 7 } } }, part: (s) => s.process.ioPriority, is: { class: 'IOPRIO_CLASS_BE', priority: 7 } },
  { name: 'the scheduler', adjust: { linux: { scheduler: { policy: 4, nice: 5 } } }, part: (s) => [s.process.scheduler?.policy, s.process.scheduler?.nice], is: ['SCHED_BATCH', 5] },
  {
    name: 'a device and its rule', adjust: { linux: { devices: [{ path: '/dev/b', type: 'b', major: 8n, minor: 1n, fileMode: { value: 0o600 } }, { path: '-/dev/a' }] } },
    part: (s) => [s.linux.devices, s.linux.resources.devices?.at(-1)], is: [[{ path: '/dev/b', type: 'b', major: 8, minor: 1, fileMode: 0o600 }], { allow: true, type: 'b', major: 8, minor: 1, access: 'rwm' }],
  },
  {
    name: 'a memory limit, which is one for swap too', adjust: { linux: { resources: { memory: { limit: { value: 9n } }, cpu: { shares: { value: 7n } }, pids: { limit: 3n } } } },
    part: (s) => ({ ...s.linux.resources, devices: undefined }), is: { devices: undefined, memory: { limit: 9, swap: 9 }, cpu: { shares: 7, cpus: '0' }, pids: { limit: 3 } },
  },
  { name: 'huge pages', adjust: { linux: { resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4n }] } } }, part: (s) => s.linux.resources.hugepageLimits, is: [{ pageSize: '2MB', limit: 4 }] },
  { name: 'unified keys', adjust: { linux: { resources: { unified: { 'memory.high': '1' } } } }, part: (s) => s.linux.resources.unified, is: { 'memory.high': '1' } },
  { name: 'the group', adjust: { linux: { cgroupsPath: '/other/c1' } }, part: (s) => s.linux.cgroupsPath, is: '/other/c1' },
  { name: 'namespaces', adjust: { linux: { namespaces: [{ type: '-network' }, { type: 'ipc', path: '/i' }] } }, part: (s) => s.linux.namespaces, is: [{ type: 'mount' }, { type: 'ipc', path: '/i' }] },
  { name: 'sysctls', adjust: { linux: { sysctl: { 'net.x': '1' } } }, part: (s) => s.linux.sysctl, is: { 'net.x': '1' } },
  { name: 'network devices', adjust: { linux: { netDevices: { eth5: { name: 'in' } } } }, part: (s) => s.linux.netDevices, is: { eth5: { name: 'in' } } },
  { name: 'an RDT class', adjust: { linux: { resources: { rdtClass: { value: 'gold' } } } }, part: (s) => s.linux.intelRdt, is: { closID: 'gold' } },
  { name: 'memory policy', adjust: { linux: { memoryPolicy: { mode: 2, nodes: '0', flags: [0] } } }, part: (s) => s.linux.memoryPolicy, is: { mode: 'MPOL_BIND', nodes: '0', flags: ['MPOL_F_STATIC_NODES'] } },
  {
    name: 'seccomp', adjust: { linux: { seccompPolicy: { defaultAction: 'SCMP_ACT_ERRNO', syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }] } } },
    part: (s) => [s.linux.seccomp?.defaultAction, s.linux.seccomp?.syscalls?.[0]?.names], is: ['SCMP_ACT_ERRNO', ['read']],
  },
];
for (const { name, adjust, part, is } of changes) test(`changed: ${name}`, () => assert.deepEqual(part(adjusted(adjust)), is));

const refused: readonly { name: string; adjust: DeepPartial<ContainerAdjustment>; on?: Partial<AdjustHost>; says: RegExp }[] = [
  { name: 'unified keys on cgroup v1', adjust: { linux: { resources: { unified: { 'memory.high': '1' } } } }, on: { cgroupVersion: 1 }, says: /memory\.high.*cgroup v1/ },
  { name: 'a block I/O class', adjust: { linux: { resources: { blockioClass: { value: 'slow' } } } }, says: /slow/ },
  { name: 'a device of no type', adjust: { linux: { devices: [{ path: '/dev/x', type: 'z' }] } }, says: /\/dev\/x.*"z"/ },
  { name: 'a namespace of no type', adjust: { linux: { namespaces: [{ type: 'moon' }] } }, says: /moon/ },
];
for (const { name, adjust, on, says } of refused) {
  test(`refused: ${name}`, () => assert.throws(() => adjusted(adjust, { ...host, ...on }), (error) => isFault(error, 'invalid') && says.test(error.message)));
}

test('huge pages are left out where there are none', () => {
  assert.equal(adjusted({ linux: { resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4n }] } } }, { ...host, controllers: new Set() }).linux.resources.hugepageLimits, undefined);
});

test('"no limit" is written exactly and can be read again', () => {
  const text = writeSpec(adjusted({ rlimits: [{ type: 'RLIMIT_CORE', hard: 2n ** 64n - 1n, soft: 1n }] }));
  assert.match(text, /"hard":18446744073709551615,"soft":1\}/);
  assert.equal(readSpec(text).process.rlimits?.[0]?.soft, 1n);
});

// --- the default validator ------------------------------------------------------------------------------------------------------------

const lenient: ValidatorConfig = {
  enable: true, rejectOCIHookAdjustment: false, rejectRuntimeDefaultSeccompAdjustment: false, rejectUnconfinedSeccompAdjustment: false, rejectCustomSeccompAdjustment: false,
  rejectNamespaceAdjustment: false, rejectSysctlAdjustment: false, requiredPlugins: [], tolerateMissingPluginsAnnotation: undefined,
};
const seccomp = { linux: { seccompPolicy: { defaultAction: 'x' } } };
const verdicts: readonly { name: string; config: Partial<ValidatorConfig>; adjust?: DeepPartial<ContainerAdjustment>; profile?: 0 | 1 | 2; annotations?: Record<string, string>; says: RegExp | undefined }[] = [
  { name: 'nothing is forbidden', config: {}, adjust: { hooks: { prestart: [{ path: '/h' }] } }, says: undefined },
  { name: 'hooks', config: { rejectOCIHookAdjustment: true }, adjust: { hooks: { prestart: [{ path: '/h' }] } }, says: /10-p may not adjust OCI hooks/ },
  { name: 'nobody set hooks', config: { rejectOCIHookAdjustment: true }, adjust: { args: ['x'] }, says: undefined },
  { name: 'namespaces', config: { rejectNamespaceAdjustment: true }, adjust: { linux: { namespaces: [{ type: 'ipc' }] } }, says: /namespaces/ },
  { name: 'sysctls', config: { rejectSysctlAdjustment: true }, adjust: { linux: { sysctl: { a: '1' } } }, says: /sysctls/ },
  { name: 'RuntimeDefault', config: { rejectRuntimeDefaultSeccompAdjustment: true }, adjust: seccomp, profile: 0, says: /runtime default/ },
  { name: 'Unconfined', config: { rejectUnconfinedSeccompAdjustment: true }, adjust: seccomp, profile: 1, says: /unconfined/ },
  { name: 'no profile is Unconfined', config: { rejectUnconfinedSeccompAdjustment: true }, adjust: seccomp, says: /unconfined/ },
  { name: 'Localhost', config: { rejectCustomSeccompAdjustment: true }, adjust: seccomp, profile: 2, says: /custom/ },
  { name: 'another profile than the forbidden', config: { rejectCustomSeccompAdjustment: true }, adjust: seccomp, profile: 0, says: undefined },
  { name: 'a required plugin is there', config: { requiredPlugins: ['p', '10-p'] }, says: undefined },
  { name: 'a required plugin is not there', config: { requiredPlugins: ['p', 'q'] }, says: /not there: q$/ },
  { name: 'the pod requires one more', config: {}, annotations: { 'required-plugins.noderesource.dev': '[r]' }, says: /not there: r$/ },
  { name: 'another container requires it', config: {}, annotations: { 'required-plugins.noderesource.dev/container.other': '[r]' }, says: undefined },
  { name: 'what the pod requires is no list', config: {}, annotations: { 'required-plugins.noderesource.dev/pod': '{' }, says: /not a list/ },
  { name: 'the container goes without', config: { requiredPlugins: ['q'], tolerateMissingPluginsAnnotation: 'ok' }, annotations: { 'ok/container.c': 'true' }, says: undefined },
  { name: 'it is switched off', config: { enable: false, requiredPlugins: ['q'] }, says: undefined },
];
for (const { name, config, adjust = {}, profile, annotations = {}, says } of verdicts) {
  test(`default validator: ${name}`, () => {
    const container = Container.fromPartial({ id: 'c1', name: 'c', linux: profile === undefined ? {} : { seccompProfile: { profileType: profile } } });
    const merge = new Merge({ container }, 'create');
    merge.apply('10-p', { adjust: ContainerAdjustment.fromPartial(adjust), update: [] });
    const reason = rejection({ ...lenient, ...config }, { pod: PodSandbox.fromPartial({ annotations }), container, adjust: merge.adjust, owners: merge.owners, plugins: [{ index: '10', name: 'p' }] });
    if (says === undefined) assert.equal(reason, undefined);
    else assert.match(reason ?? 'accepted', says);
  });
}
