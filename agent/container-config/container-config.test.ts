/** Pod specs as CRI messages: environment, DNS, hosts, security, resources, mounts, and the two messages as wholes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Image, NamespaceMode, SecurityProfile_ProfileType as Profile } from '#cri-api';
import type { Container, Pod } from '../kube/types.ts';
import { container, podOf } from '../pod/observed.fake.ts';
import { containerConfig, type ContainerFacts } from './container.ts';
import { parseResolvConf, podDns } from './dns.ts';
import { environment, envReferences } from './env.ts';
import { expand } from './expand.ts';
import { hostsFile } from './hosts-file.ts';
import { kernelHostname, podHostname } from './hostname.ts';
import { volumeMounts } from './mounts.ts';
import { sandboxConfig } from './sandbox.ts';
import { serviceVariables } from './service-env.ts';

const known = new Map([['A', '1'], ['B', '']]);
for (const [text, want] of [
  ['$(A)', '1'], ['x$(A)y$(B)z', 'x1yz'], ['$(C)', '$(C)'], ['$$(A)', '$(A)'], ['$$', '$'], ['$A', '$A'], ['$(A', '$(A'], ['$', '$'], ['', ''], ['$$$(A)', '$1'],
] as const) {
  test(`expand ${JSON.stringify(text)}`, () => assert.equal(expand(text, known), want));
}

const configMaps = new Map([['cm', { data: { a: 'from cm', 'bad=name': 'x', n: 'cm' } }]]);
const secrets = new Map([['s', { data: { p: Buffer.from('pässword').toString('base64'), n: Buffer.from('secret').toString('base64') } }]]);
const place = { hostIPs: ['192.168.0.1'], podIPs: ['10.0.0.1', 'fd00::1'], allocatable: { cpu: '2', memory: '4Gi' } };
const sources = { configMaps, secrets, place, services: new Map([['KUBERNETES_PORT', 'tcp://10.96.0.1:443'], ['A', 'service']]) };
const env = (list: Container['env'], more: Partial<Container> = {}): Record<string, string> =>
  Object.fromEntries(environment(podOf({ nodeName: 'n' }, { labels: { l: 'v' } }), container('c', { env: list ?? [], ...more }), { ...sources, services: new Map() }));

const envCases: [name: string, list: NonNullable<Container['env']>, want: Record<string, string>][] = [
  ['later values see earlier ones', [{ name: 'A', value: '1' }, { name: 'B', value: '$(A)$(C)' }, { name: 'C', value: 'c' }], { A: '1', B: '1$(C)', C: 'c' }],
  ['ConfigMap and Secret keys', [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'cm', key: 'a' } } }, { name: 'P', valueFrom: { secretKeyRef: { name: 's', key: 'p' } } }], { A: 'from cm', P: 'pässword' }],
  ['optional ones that are missing are left out', [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'no', key: 'a', optional: true } } }, { name: 'P', valueFrom: { secretKeyRef: { name: 's', key: 'no', optional: true } } }], {}],
  ['fields', [{ name: 'A', valueFrom: { fieldRef: { fieldPath: "metadata.labels['l']" } } }, { name: 'I', valueFrom: { fieldRef: { fieldPath: 'status.podIPs' } } }, { name: 'N', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }], { A: 'v', I: '10.0.0.1,fd00::1', N: 'n' }],
];
for (const [name, list, want] of envCases) test(`env: ${name}`, () => assert.deepEqual(env(list), want));

const resources = { requests: { cpu: '250m' }, limits: { memory: '100M' } };
for (const [resource, divisor, want] of [
  ['requests.cpu', undefined, '1'], ['requests.cpu', '1m', '250'], ['limits.memory', '1Mi', '96'], ['limits.cpu', undefined, '2'], ['requests.memory', undefined, '100000000'],
] as const) {
  test(`env: ${resource} in units of ${divisor ?? '0'}`, () => {
    const reference = { resource, ...(divisor !== undefined && { divisor }) };
    assert.equal(env([{ name: 'R', valueFrom: { resourceFieldRef: reference } }], { resources })['R'], want);
  });
}

test('env: envFrom with a prefix, the later wins, env wins over both, services fill in what is left', () => {
  const found = environment(podOf(), container('c', { envFrom: [{ configMapRef: { name: 'cm' } }, { secretRef: { name: 's' } }, { prefix: 'X_', configMapRef: { name: 'cm' } }], env: [{ name: 'a', value: 'mine' }] }), sources);
  assert.deepEqual(Object.fromEntries(found), { a: 'mine', n: 'secret', p: 'pässword', X_a: 'from cm', X_n: 'cm', KUBERNETES_PORT: 'tcp://10.96.0.1:443', A: 'service' });
});

const missing: [list: Container['env'], message: string][] = [
  [[{ name: 'A', valueFrom: { configMapKeyRef: { name: 'no', key: 'a' } } }], 'configmap "no" not found'],
  [[{ name: 'A', valueFrom: { secretKeyRef: { name: 'no', key: 'a' } } }], 'secret "no" not found'],
  [[{ name: 'A', valueFrom: { configMapKeyRef: { name: 'cm', key: 'no' } } }], "couldn't find key no in ConfigMap ns/cm"],
  [[{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'no' } } }], "couldn't find key no in Secret ns/s"],
];
for (const [list, message] of missing) test(`env: ${message}`, () => assert.throws(() => env(list), { message }));

test('env: what will be wanted is known before', () => {
  const wanted = envReferences(container('c', { envFrom: [{ secretRef: { name: 's1' } }], env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'c1', key: 'k' } } }] }));
  assert.deepEqual([[...wanted.configMaps], [...wanted.secrets]], [['c1'], ['s1']]);
});

test('service variables: those of the namespace and kubernetes, headless ones have none', () => {
  const services = [
    { namespace: 'default', name: 'kubernetes', clusterIP: '10.96.0.1', ports: [{ name: 'https', port: 443 }] },
    { namespace: 'ns', name: 'my-db', clusterIP: '10.96.0.9', ports: [{ port: 53, protocol: 'UDP' }] },
    { namespace: 'ns', name: 'headless', clusterIP: 'None', ports: [{ port: 1 }] },
    { namespace: 'other', name: 'hidden', clusterIP: '10.96.0.8', ports: [{ port: 1 }] },
  ];
  const all = Object.fromEntries(serviceVariables(services, { namespace: 'ns', enableServiceLinks: true }));
  assert.equal(all['KUBERNETES_SERVICE_PORT_HTTPS'], '443');
  assert.equal(all['MY_DB_PORT_53_UDP_ADDR'], '10.96.0.9');
  assert.equal(all['MY_DB_PORT'], 'udp://10.96.0.9:53');
  assert.equal(Object.keys(all).some((name) => /HEADLESS|HIDDEN/.test(name)), false);
  assert.equal([...serviceVariables(services, { namespace: 'ns', enableServiceLinks: false }).keys()].every((name) => name.startsWith('KUBERNETES_')), true);
});

const node = parseResolvConf('# by hand\nnameserver 1.1.1.1\nsearch example.com.\noptions ndots:1 timeout:2\n');
const dnsFacts = { node, clusterDNS: ['10.96.0.10'], clusterDomain: 'cluster.local', isStandalone: false };
const dnsCases: [name: string, spec: NonNullable<Pod['spec']> extends infer S ? Partial<S> : never, facts: typeof dnsFacts, want: object, warnings: string[]][] = [
  ['ClusterFirst', {}, dnsFacts, { servers: ['10.96.0.10'], searches: ['ns.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'example.com'], options: ['ndots:5'] }, []],
  ['ClusterFirst on the host network is Default', { hostNetwork: true }, dnsFacts, { servers: ['1.1.1.1'], searches: ['example.com'], options: ['ndots:1', 'timeout:2'] }, []],
  ['no cluster DNS: Default, with a warning', {}, { ...dnsFacts, clusterDNS: [] }, { servers: ['1.1.1.1'], searches: ['example.com'], options: ['ndots:1', 'timeout:2'] }, ['MissingClusterDNS']],
  ['a standalone node misses nothing', {}, { ...dnsFacts, clusterDNS: [], isStandalone: true }, { servers: ['1.1.1.1'], searches: ['example.com'], options: ['ndots:1', 'timeout:2'] }, []],
  ['None with a dnsConfig', { dnsPolicy: 'None', dnsConfig: { nameservers: ['9.9.9.9'], searches: ['a'], options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] } }, dnsFacts, { servers: ['9.9.9.9'], searches: ['a'], options: ['ndots:2', 'edns0'] }, []],
  ['dnsConfig overrides options by name', { dnsConfig: { options: [{ name: 'ndots', value: '1' }] } }, dnsFacts, { servers: ['10.96.0.10'], searches: ['ns.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'example.com'], options: ['ndots:1'] }, []],
  ['a fourth name server is left out', { dnsPolicy: 'None', dnsConfig: { nameservers: ['1', '2', '3', '4'] } }, dnsFacts, { servers: ['1', '2', '3'], searches: [], options: [] }, ['DNSConfigForming']],
];
for (const [name, spec, facts, want, warnings] of dnsCases) {
  test(`dns: ${name}`, () => {
    const found = podDns(podOf(spec), facts);
    assert.deepEqual(found.config, want);
    assert.deepEqual(found.warnings.map(({ reason }) => reason), warnings);
  });
}

test('host names: cut to 63, with a domain, and too long as a whole', () => {
  assert.deepEqual(podHostname(podOf({}, { name: `${'x'.repeat(62)}-yz` }), 'd'), { hostname: 'x'.repeat(62), domain: '' });
  const pod = podOf({ hostname: 'h', subdomain: 'sub', setHostnameAsFQDN: true });
  assert.equal(kernelHostname(pod, podHostname(pod, 'cluster.local')), 'h.sub.ns.svc.cluster.local');
  const long = podOf({ hostname: 'h'.repeat(50), subdomain: 'sub', setHostnameAsFQDN: true });
  assert.throws(() => kernelHostname(long, podHostname(long, 'cluster.local')), /is too long \(64 characters is the max/);
});

test('the hosts file has each address, the domain first, and the aliases', () => {
  const text = hostsFile(podOf({ hostAliases: [{ ip: '1.2.3.4', hostnames: ['a', 'b'] }] }), ['10.0.0.1', 'fd00::1'], { hostname: 'h', domain: 'sub.ns.svc.d' });
  assert.match(text, /^# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n/);
  assert.match(text, /10.0.0.1\th.sub.ns.svc.d\th\nfd00::1\th.sub.ns.svc.d\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n$/);
});

const facts: ContainerFacts = {
  restartCount: 2,
  image: { ref: 'sha256:aa', known: Image.fromPartial({ uid: { value: 1000n } }) },
  env: new Map([['A', 'x']]),
  mounts: [],
  security: { seccompDir: '/seccomp', seccompDefault: false, extraMaskedPaths: ['/sys/x'] },
  resources: { cpuQuota: true, cgroupV2: true, oomScoreAdj: 1000 },
};

test('a container message: expansion, labels, notes for after a restart, log path', () => {
  const config = containerConfig(podOf({ terminationGracePeriodSeconds: 5 }), container('c', { command: ['sh', '$(A)'], terminationMessagePath: '/dev/termination-log', ports: [{ containerPort: 80 }] }), facts);
  assert.deepEqual(config.command, ['sh', 'x']);
  assert.equal(config.logPath, 'c/2.log');
  assert.deepEqual(config.metadata, { name: 'c', attempt: 2 });
  assert.deepEqual(config.labels, { 'io.kubernetes.pod.name': 'p', 'io.kubernetes.pod.namespace': 'ns', 'io.kubernetes.pod.uid': 'u1', 'io.kubernetes.container.name': 'c' });
  assert.equal(config.annotations['io.kubernetes.container.restartCount'], '2');
  assert.equal(config.annotations['io.kubernetes.pod.terminationGracePeriod'], '5');
  assert.equal(config.annotations['io.kubernetes.container.ports'], '[{"containerPort":80}]');
  assert.deepEqual([config.image?.image, config.image?.userSpecifiedImage], ['sha256:aa', 'demo:1']);
});

const security = (own: Container['securityContext'], ofPod: NonNullable<Pod['spec']>['securityContext'] = {}, spec: object = {}) =>
  containerConfig(podOf({ securityContext: ofPod ?? {}, ...spec }), container('c', { securityContext: own ?? {} }), facts).linux?.securityContext;

test('security: the container’s word counts before the pod’s, the pod’s before the image’s', () => {
  assert.equal(security({}, {})?.runAsUser?.value, 1000n);
  assert.equal(security({}, { runAsUser: 5 })?.runAsUser?.value, 5n);
  assert.equal(security({ runAsUser: 6 }, { runAsUser: 5 })?.runAsUser?.value, 6n);
  assert.deepEqual(security({}, { fsGroup: 7, supplementalGroups: [8] })?.supplementalGroups, [7n, 8n]);
});

test('security: privileges, profiles and paths', () => {
  assert.equal(security({ allowPrivilegeEscalation: false })?.noNewPrivs, true);
  assert.equal(security({ allowPrivilegeEscalation: false, privileged: true })?.noNewPrivs, false);
  assert.equal(security({ allowPrivilegeEscalation: false, capabilities: { add: ['SYS_ADMIN'] } })?.noNewPrivs, false);
  assert.deepEqual(security({ seccompProfile: { type: 'Localhost', localhostProfile: 'a.json' } })?.seccomp, { profileType: Profile.Localhost, localhostRef: '/seccomp/a.json' });
  assert.equal(security({}, { seccompProfile: { type: 'RuntimeDefault' } })?.seccomp?.profileType, Profile.RuntimeDefault);
  assert.equal(security({})?.seccomp?.profileType, Profile.Unconfined);
  assert.equal(security({})?.maskedPaths.includes('/sys/x'), true);
  assert.deepEqual(security({ procMount: 'Unmasked' })?.readonlyPaths, []);
});

test('security: namespaces', () => {
  assert.equal(security({})?.namespaceOptions?.pid, NamespaceMode.CONTAINER);
  assert.equal(security({}, {}, { shareProcessNamespace: true })?.namespaceOptions?.pid, NamespaceMode.POD);
  assert.deepEqual([security({}, {}, { hostNetwork: true })?.namespaceOptions?.network, security({}, {}, { hostIPC: true })?.namespaceOptions?.ipc], [NamespaceMode.NODE, NamespaceMode.NODE]);
});

test('security: runAsNonRoot is kept or refused in the kubelet’s words', () => {
  const config = (image: Image, own: Container['securityContext']) => () => containerConfig(podOf(), container('c', { securityContext: { runAsNonRoot: true, ...own } }), { ...facts, image: { ref: 'x', known: image } });
  assert.throws(config(Image.fromPartial({ uid: { value: 0n } }), {}), /container has runAsNonRoot and image will run as root/);
  assert.throws(config(Image.fromPartial({ username: 'bob' }), {}), /image has non-numeric user \(bob\), cannot verify user is non-root/);
  assert.throws(config(Image.fromPartial({}), { runAsUser: 0 }), /container's runAsUser breaks non-root policy/);
  assert.doesNotThrow(config(Image.fromPartial({ username: 'bob' }), { runAsUser: 3 }));
});

test('resources: shares, quota, memory, huge pages; v2 extras only on v2', () => {
  const one = container('c', { resources: { requests: { cpu: '250m' }, limits: { cpu: '500m', memory: '64Mi', 'hugepages-2Mi': '4Mi' } } });
  const found = containerConfig(podOf(), one, facts).linux?.resources;
  assert.deepEqual([found?.cpuShares, found?.cpuQuota, found?.cpuPeriod, found?.memoryLimitInBytes, found?.oomScoreAdj], [256n, 50_000n, 100_000n, 67_108_864n, 1000n]);
  assert.deepEqual(found?.hugepageLimits, [{ pageSize: '2MB', limit: 4_194_304n }]);
  assert.equal(found?.unified['memory.oom.group'], '1');
  const bare = containerConfig(podOf(), container('c'), { ...facts, resources: { ...facts.resources, cgroupV2: false } }).linux?.resources;
  assert.deepEqual([bare?.cpuShares, bare?.cpuQuota, bare?.memoryLimitInBytes, bare?.unified], [2n, 0n, 0n, {}]);
});

const volumes = new Map([['v', { hostPath: '/vol', readOnly: false }]]);
const mountCases: [name: string, mount: NonNullable<Container['volumeMounts']>[number], want: string | RegExp][] = [
  ['the whole volume', { name: 'v', mountPath: '/m' }, '/vol'],
  ['a path in it', { name: 'v', mountPath: '/m', subPath: 'a/b' }, '/vol/a/b'],
  ['with a variable', { name: 'v', mountPath: '/m', subPathExpr: '$(A)/b' }, '/vol/x/b'],
  ['an unknown variable', { name: 'v', mountPath: '/m', subPathExpr: '$(NO)' }, /missing value for NO/],
  ['out of the volume', { name: 'v', mountPath: '/m', subPath: 'a/../../b' }, /must not contain '\.\.'/],
  ['an absolute path', { name: 'v', mountPath: '/m', subPath: '/etc' }, /must not be an absolute path/],
  ['no such volume', { name: 'w', mountPath: '/m' }, /the volume "w" is missing/],
];
for (const [name, mount, want] of mountCases) {
  test(`mounts: ${name}`, () => {
    const planned = (): string | undefined => volumeMounts(container('c', { volumeMounts: [mount] }), volumes, facts.env)[0]?.mount.hostPath;
    if (typeof want === 'string') assert.equal(planned(), want);
    else assert.throws(planned, want);
  });
}

test('a sandbox message: ports with their host ports, sysctls, the pod’s labels and annotations', () => {
  const pod = podOf(
    { containers: [container('c', { ports: [{ containerPort: 80, hostPort: 8080, protocol: 'TCP' }] })], securityContext: { sysctls: [{ name: 'net.ipv4.tcp_syncookies', value: '1' }] } },
    { labels: { app: 'x' }, annotations: { note: 'y' } },
  );
  const config = sandboxConfig(pod, { attempt: 1, logDirectory: '/logs', cgroupParent: '/kubepods/podu1', dns: { servers: [], searches: [], options: [] }, clusterDomain: 'd' });
  assert.deepEqual(config.metadata, { name: 'p', namespace: 'ns', uid: 'u1', attempt: 1 });
  assert.deepEqual(config.portMappings, [{ protocol: 0, containerPort: 80, hostPort: 8080, hostIp: '' }]);
  assert.deepEqual(config.linux?.sysctls, { 'net.ipv4.tcp_syncookies': '1' });
  assert.equal(config.labels['app'], 'x');
  assert.equal(config.annotations['note'], 'y');
  assert.equal(config.hostname, 'p');
});
