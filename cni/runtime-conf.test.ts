/** What a plugin is given: stdin, environment, the cache file beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bandwidthOf } from './bandwidth.ts';
import { decodeEntry, encodeEntry } from './cache.ts';
import { parseConfFile } from './conf.ts';
import { isIdle } from './idle.ts';
import type { JsonObject, PluginConf } from './types.ts';
import { checkPodCidrs, defaultNetwork, defaultNetworkFor, podCidrsOf } from './default-network.ts';
import { CniError } from './errors.ts';
import { jumpSource, restoreText } from './masquerade.ts';
import { parseSubnet } from './address.ts';
import { checkAttachment, cniArgs, pluginEnv } from './plugin-env.ts';
import { capabilityArgs, pluginStdin } from './runtime-conf.ts';

const attachment = {
  containerId: 'c1',
  netnsPath: '/run/ns',
  ifName: 'eth0',
  pod: { namespace: 'ns', name: 'web', uid: 'u-1' },
  portMappings: [{ hostPort: 80, containerPort: 8080, protocol: 'tcp' as const }],
  dns: { servers: ['10.0.0.10'] },
  aliases: [],
  mac: '',
};

test('a capability reaches only the plugins that declare it', () => {
  const network = parseConfFile({
    path: 'a.conflist',
    text: JSON.stringify({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'bridge', capabilities: { portMappings: false, aliases: true } }, { type: 'portmap', capabilities: { portMappings: true, bandwidth: true } }] }),
  });
  const offered = capabilityArgs(attachment);
  assert.deepEqual(Object.keys(offered), ['portMappings', 'dns']);
  const [bridge, portmap] = network.plugins.map((plugin) => JSON.parse(pluginStdin(network, plugin, { capabilityArgs: offered, prevResult: { cniVersion: '1.0.0' } })) as Record<string, unknown>);
  assert.equal(bridge?.['runtimeConfig'], undefined);
  assert.deepEqual(portmap, {
    type: 'portmap',
    capabilities: { portMappings: true, bandwidth: true },
    name: 'n',
    cniVersion: '1.0.0',
    prevResult: { cniVersion: '1.0.0' },
    runtimeConfig: { portMappings: attachment.portMappings },
  });
});

test('the environment is that of libcni, with the pod in CNI_ARGS', () => {
  const env = pluginEnv({ verb: 'ADD', containerId: 'c1', netnsPath: '/run/ns', ifName: 'eth0', args: cniArgs(attachment) }, { binDirs: ['/a', '/b'], searchPath: '/bin' });
  assert.deepEqual(env, {
    GOMAXPROCS: '1', GOGC: 'off', GOMEMLIMIT: '128MiB', PATH: '/bin',
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/ns',
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/a:/b',
  });
});

test('what would not survive the way to a plugin is refused', () => {
  assert.throws(() => checkAttachment({ ...attachment, pod: { ...attachment.pod, name: 'a;K8S_POD_UID=b' } }), /pod name .* not fit for CNI_ARGS/);
  assert.throws(() => checkAttachment({ ...attachment, ifName: 'a-very-long-interface' }), /interface name/);
  assert.throws(() => checkAttachment({ ...attachment, containerId: '../x' }), /container id/);
});

// Written by libcni 1.3.0 (containerd 2.4.2), shortened.
const fromLibcni =
  '{"kind":"cniCacheV1","containerId":"c1","config":"eyJuYW1lIjoibiJ9","ifName":"eth0","networkName":"n","netns":"/run/ns","cniArgs":[["IgnoreUnknown","1"]],"capabilityArgs":{"portMappings":[]},"result":{"cniVersion":"1.0.0"}}';

test('the cache speaks the format of libcni, both ways', () => {
  const entry = decodeEntry(fromLibcni);
  assert.ok(entry !== undefined);
  assert.equal(entry.config, '{"name":"n"}');
  assert.deepEqual(JSON.parse(encodeEntry(entry)), JSON.parse(fromLibcni));
  assert.equal(decodeEntry('{"cniVersion":"0.4.0"}'), undefined);
  assert.equal(decodeEntry('{"kind":'), undefined);
});

test('an error of a plugin reads as with libcni, and keeps the end of stderr', () => {
  const error = new CniError({ plugin: 'bridge', verb: 'ADD', code: 11, msg: 'no address', details: 'pool empty', stderr: `${'x'.repeat(3000)}the end\n` });
  assert.match(error.message, /^plugin type="bridge" failed \(add\): no address; pool empty; x+the end$/);
  assert.ok(error.message.length < 1200);
  assert.equal(error.kind, 'unavailable');
});

const conf = (type: string, capabilities: readonly string[], more: JsonObject = {}): PluginConf => ({ type, capabilities, raw: { type, ...more } });
const idlePlugins: readonly [string, PluginConf, number, JsonObject, boolean][] = [
  ['portmap without mappings', conf('portmap', ['portMappings']), 1, {}, true],
  ['portmap with mappings', conf('portmap', ['portMappings']), 1, { portMappings: [{}] }, false],
  ['portmap that does not get the mappings', conf('portmap', []), 1, { portMappings: [{}] }, true],
  ['portmap with mappings in its file', conf('portmap', ['portMappings'], { runtimeConfig: { portMappings: [{}] } }), 1, {}, false],
  ['bandwidth without limits', conf('bandwidth', ['bandwidth']), 2, {}, true],
  ['bandwidth with the pod\'s limit', conf('bandwidth', ['bandwidth']), 2, { bandwidth: {} }, false],
  ['bandwidth with limits in its file', conf('bandwidth', ['bandwidth'], { ingressRate: 1 }), 2, {}, false],
  ['the first plugin', conf('portmap', ['portMappings']), 0, {}, false],
  ['any other plugin', conf('tuning', ['mac']), 1, {}, false],
];
for (const [what, plugin, index, args, want] of idlePlugins) test(`${what} ${want ? 'has nothing to do' : 'is run'}`, () => assert.equal(isIdle(plugin, index, args), want));

test('the generated network has a plugin only where it has something to do', () => {
  const options = { podCidrs: ['10.200.0.0/24', 'fd00:c8::/64'], addressDir: '/x' };
  const types = (more: Parameters<typeof defaultNetworkFor>[1]): string[] => defaultNetworkFor(options, more).plugins.map((plugin) => plugin.type);
  assert.deepEqual(types({}), ['bridge']);
  assert.deepEqual(types(attachment), ['bridge', 'portmap']);
  assert.deepEqual(types({ bandwidth: { ingressRate: 1 } }), ['bridge', 'bandwidth']);
  assert.deepEqual(podCidrsOf(defaultNetwork(options).text, 'x.conflist'), options.podCidrs);
});

const badCidrs: readonly [readonly string[], RegExp][] = [
  [['10.0.0.0'], /pod CIDR: "10.0.0.0" is not a CIDR/],
  [['10.0.0.0/31'], /too small/],
  [['10.0.0.0/16', '10.0.1.0/24'], /they overlap/],
  [['10.0.0.0/16', '10.1.0.0/24'], /at most one of each family/],
];
for (const [cidrs, want] of badCidrs) test(`pod CIDRs ${cidrs.join(', ')} are refused`, () => assert.throws(() => checkPodCidrs(cidrs), want));

test('bandwidth annotations become bits per second', () => {
  assert.equal(bandwidthOf({}), undefined);
  assert.deepEqual(bandwidthOf({ 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '1.5Gi' }), { ingressRate: 10_000_000, ingressBurst: 4_294_967_295, egressRate: 1_610_612_736, egressBurst: 4_294_967_295 });
  assert.throws(() => bandwidthOf({ 'kubernetes.io/ingress-bandwidth': '10' }), /annotation kubernetes.io\/ingress-bandwidth: 10 is not between/);
  assert.throws(() => bandwidthOf({ 'kubernetes.io/egress-bandwidth': 'fast' }), /"fast" is not a quantity/);
});

test('masquerading is one text for iptables-restore, and our jumps are recognised', () => {
  const pods = [parseSubnet('10.200.0.0/24'), parseSubnet('fd00:c8::/64')];
  const text = restoreText({ family: 4, chain: 'NODELET-MASQ', direct: pods, missingJumps: pods.slice(0, 1) });
  assert.deepEqual(text.split('\n'), [
    '*nat',
    ':NODELET-MASQ - [0:0]',
    '-A NODELET-MASQ -d 10.200.0.0/24 -j RETURN',
    '-A NODELET-MASQ -d 224.0.0.0/4 -j RETURN',
    '-A NODELET-MASQ -j MASQUERADE --random-fully',
    '-A POSTROUTING -s 10.200.0.0/24 -m comment --comment "nodelet: from pods to outside" -j NODELET-MASQ',
    'COMMIT',
    '',
  ]);
  assert.equal(jumpSource('-A POSTROUTING -s 10.200.0.0/24 -m comment --comment "nodelet: from pods to outside" -j NODELET-MASQ', 'NODELET-MASQ'), '10.200.0.0/24');
  assert.equal(jumpSource('-A POSTROUTING -s 10.200.0.0/24 -j KUBE-POSTROUTING', 'NODELET-MASQ'), undefined);
});
