/** Files of the Container Device Interface, the names in a config, and what both do to config.json. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fault } from '#host/fault.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import { askedCdiDevices, type CdiFile, cdiEdits, editSpec } from './cdi.ts';
import { cdiSpec } from './cdi-spec.ts';

const spec = (fields: object = {}): unknown => ({ cdiVersion: '0.6.0', kind: 'vendor.com/gpu', devices: [{ name: 'all', containerEdits: { env: ['A=1'] } }], ...fields });
const edits = (containerEdits: object): unknown => spec({ containerEdits });

const refused: [string, unknown, RegExp][] = [
  ['not a mapping', [], /f: specification: must be a mapping/],
  ['of an unknown version', spec({ cdiVersion: '2.0.0' }), /cdiVersion: "2.0.0" is not supported/],
  ['of no kind', spec({ kind: 'gpu' }), /kind: "gpu" must be like vendor\.com\/class/],
  ['with a device of no name', spec({ devices: [{}] }), /devices\[0\]\.name: "" is not a name/],
  ['with a device twice', spec({ devices: [{ name: 'a' }, { name: 'a' }] }), /"a" is there twice/],
  ['with an effect that is not known', edits({ seccomp: {} }), /containerEdits\.seccomp: unknown field/],
  ['with a variable of no name', edits({ env: ['=x'] }), /env\[0\]: "=x" must be NAME=value/],
  ['with a node of an unknown type', edits({ deviceNodes: [{ path: '/dev/x', type: 'q' }] }), /deviceNodes\[0\]\.type: "q"/],
  ['with a relative node', edits({ deviceNodes: [{ path: 'dev/x' }] }), /deviceNodes\[0\]\.path: "dev\/x" is not an absolute path/],
  ['with unknown permissions', edits({ deviceNodes: [{ path: '/dev/x', permissions: 'rx' }] }), /permissions: only r, w and m/],
  ['with a hook at no point', edits({ hooks: [{ hookName: 'start', path: '/x' }] }), /hookName: "start" is none of prestart/],
  ['with a mount from nowhere', edits({ mounts: [{ containerPath: '/x' }] }), /mounts\[0\]\.hostPath: is missing/],
  ['with an id that is none', edits({ additionalGids: [-1] }), /additionalGids\[0\]: must be a number/],
  ['with a class of resctrl elsewhere', edits({ intelRdt: { closID: '../x' } }), /closID: "\.\.\/x" is not a name/],
];
for (const [what, value, message] of refused) test(`a CDI file ${what} is refused with the place`, () => assert.throws(() => cdiSpec(value, 'f'), { kind: 'invalid', message }));

test('devices are named in the field and in annotations, each once', () => {
  const annotations = { 'cdi.k8s.io/plugin_1': 'vendor.com/gpu=a, vendor.com/gpu=b', other: 'vendor.com/gpu=c', 'cdi.k8s.io/none': '' };
  assert.deepEqual(askedCdiDevices({ CDIDevices: [{ name: 'vendor.com/gpu=b' }, { name: 'x.org/net=0' }], annotations }), ['vendor.com/gpu=b', 'x.org/net=0', 'vendor.com/gpu=a']);
});

const file = (path: string, directory: number, fields: object): CdiFile => ({ path, directory, content: cdiSpec(spec(fields), path) });
const device = (name: string, value: string): object => ({ name, containerEdits: { env: [`${name.toUpperCase()}=${value}`] } });
const files = [
  file('/etc/cdi/a.json', 0, { devices: [device('zero', 'etc'), device('one', 'etc')], containerEdits: { env: ['ALL=etc'] } }),
  file('/run/cdi/a.json', 1, { devices: [device('one', 'run')], containerEdits: { env: ['ALL=run'] } }),
  file('/run/cdi/b.json', 1, { devices: [device('two', 'b')] }),
  file('/run/cdi/c.json', 1, { devices: [device('two', 'c')] }),
  { path: '/run/cdi/d.json', directory: 1, content: new Fault('invalid', 'CDI file /run/cdi/d.json: not JSON') },
];
const envOf = (names: readonly string[]): string[] => cdiEdits(files, names.map((name) => `vendor.com/gpu=${name}`)).flatMap(({ env }) => env);

test("a file's own edits come once, before those of its first device, and the later directory wins", () => {
  assert.deepEqual(envOf(['one']), ['ALL=run', 'ONE=run']);
  assert.deepEqual(envOf(['zero', 'one']), ['ALL=etc', 'ZERO=etc', 'ALL=run', 'ONE=run']);
  assert.deepEqual(envOf([]), []);
});

test('a device that is in no file, in two, or has no name is an error that says so', () => {
  assert.throws(() => envOf(['nine']), { kind: 'invalid', message: 'CDI device vendor.com/gpu=nine is not known; CDI file /run/cdi/d.json: not JSON' });
  assert.throws(() => envOf(['two']), { kind: 'invalid', message: /vendor\.com\/gpu=two is in \/run\/cdi\/b\.json and in \/run\/cdi\/c\.json/ });
  for (const name of ['gpu0', 'vendor.com/gpu=', 'vendor.com=gpu', '/gpu=0']) assert.throws(() => cdiEdits(files, [name]), { kind: 'invalid', message: /must be like vendor\.com\/class=name/ });
});

const base: OciSpec = {
  ociVersion: '1.0.2',
  process: { user: { uid: 1000, gid: 1000, additionalGids: [1000] }, args: ['x'], env: ['PATH=/bin', 'A=0'], cwd: '/', capabilities: { bounding: [], effective: [], permitted: [] } },
  root: { path: '/r' },
  mounts: [{ destination: '/proc', type: 'proc', source: 'proc', options: [] }, { destination: '/a/b', type: 'bind', source: '/old', options: ['rbind'] }],
  linux: { namespaces: [], cgroupsPath: '/x', resources: { devices: [{ allow: false, access: 'rwm' }] }, devices: [{ path: '/dev/gpu', type: 'c', major: 1, minor: 1 }] },
};

test('edits change variables, nodes and mounts at the same place, and add the rest', () => {
  const { edits: found } = cdiSpec(edits({
    env: ['A=1', 'B=2'],
    mounts: [{ hostPath: '/lib/gpu', containerPath: '/a', options: ['ro'] }, { hostPath: '/new', containerPath: '/a/b', options: ['rbind', 'ro'] }, { hostPath: 'tmpfs', containerPath: '/t', type: 'tmpfs' }],
    hooks: [{ hookName: 'createContainer', path: '/bin/hook', args: ['hook', 'x'], timeout: 5 }],
    intelRdt: { closID: 'gold', l3CacheSchema: 'L3:0=f', schemata: ['MB:0=50'], enableCMT: true },
    netDevices: [{ hostInterfaceName: 'eth7', name: 'data' }],
    additionalGids: [44, 1000],
  }), 'f');
  const node = { path: '/dev/gpu', type: 'c', major: 195, minor: 0, fileMode: 0o660, permissions: 'rw', uid: undefined, gid: 44 } as const;
  const fifo = { path: '/dev/pipe', type: 'p', major: 0, minor: 0, fileMode: undefined, permissions: '', uid: 0, gid: 0 } as const;
  const { process, mounts, hooks, linux } = editSpec(base, found, [node, fifo]);
  assert.deepEqual(process.env, ['PATH=/bin', 'A=1', 'B=2']);
  assert.deepEqual(process.user.additionalGids, [1000, 44]);
  assert.deepEqual(mounts.map(({ destination, source, type, options }) => [destination, source, type, options.join(',')]), [
    ['/proc', 'proc', 'proc', ''], ['/a', '/lib/gpu', 'bind', 'bind,ro'], ['/t', 'tmpfs', 'tmpfs', ''], ['/a/b', '/new', 'bind', 'rbind,ro'],
  ]);
  assert.deepEqual(hooks, { createContainer: [{ path: '/bin/hook', args: ['hook', 'x'], timeout: 5 }] });
  assert.deepEqual(linux.devices, [
    { path: '/dev/gpu', type: 'c', major: 195, minor: 0, fileMode: 0o660, uid: 1000, gid: 44 }, { path: '/dev/pipe', type: 'p', major: 0, minor: 0, uid: 0, gid: 0 },
  ]);
  assert.deepEqual(linux.resources.devices, [{ allow: false, access: 'rwm' }, { allow: true, type: 'c', major: 195, minor: 0, access: 'rw' }]);
  assert.deepEqual([linux.intelRdt, linux.netDevices], [{ closID: 'gold', schemata: ['L3:0=f', 'MB:0=50'], enableMonitoring: true }, { eth7: { name: 'data' } }]);
});
