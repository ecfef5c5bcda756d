/** What a sandbox may ask for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig, type PortMapping, Protocol } from '#cri-api';
import { hostsFile, resolvConf } from './files.ts';
import { sandboxWish } from './request.ts';

const metadata = { name: 'n', namespace: 'ns', uid: 'u', attempt: 0 };
const config = (fields: Partial<PodSandboxConfig> = {}): PodSandboxConfig => ({ ...PodSandboxConfig.create(), metadata, ...fields });
const linux = (options: Partial<NamespaceOption>, sysctls: Record<string, string> = {}): PodSandboxConfig => {
  const securityContext = { ...LinuxSandboxSecurityContext.create(), namespaceOptions: { ...NamespaceOption.create(), ...options } };
  return config({ linux: { ...LinuxPodSandboxConfig.create(), sysctls, securityContext } });
};

test("a pod has its own network, host name and ipc unless it asks for the host's", () => {
  assert.deepEqual(sandboxWish(config()).pinned, ['net', 'uts', 'ipc']);
  assert.deepEqual(sandboxWish(linux({ network: NamespaceMode.NODE })).pinned, ['ipc']);
  assert.deepEqual(sandboxWish(linux({ network: NamespaceMode.NODE, ipc: NamespaceMode.NODE })).pinned, []);
});

test('the containers share a pid namespace by default, as the CRI says, and have their own when asked', () => {
  assert.equal(sandboxWish(config()).sharesPid, true);
  assert.equal(sandboxWish(linux({ pid: NamespaceMode.CONTAINER })).sharesPid, false);
  assert.equal(sandboxWish(linux({ pid: NamespaceMode.NODE })).sharesPid, false);
});

const port = (fields: Partial<PortMapping>): PodSandboxConfig => config({ portMappings: [{ protocol: Protocol.TCP, containerPort: 80, hostPort: 8080, hostIp: '', ...fields }] });

const refused: [string, PodSandboxConfig, RegExp][] = [
  ['a host name that is too long', config({ hostname: 'h'.repeat(65) }), /config\.hostname: .* is longer than 64 bytes/],
  ['a protocol that is none', port({ protocol: 7 as Protocol }), /port_mappings\[0\]\.protocol: 7 is none of/],
  ['a host port that is none', port({ hostPort: 65_536 }), /port_mappings\[0\]\.host_port: 65536/],
  ['a container port that is none', port({ containerPort: 0 }), /port_mappings\[0\]\.container_port: 0/],
  ['a host address that is none', port({ hostIp: 'localhost' }), /port_mappings\[0\]\.host_ip: "localhost"/],
  ['no metadata', config({ metadata: undefined }), /config\.metadata: is missing/],
  ['an empty name', config({ metadata: { ...metadata, name: '' } }), /config\.metadata\.name: is empty/],
  ['a cgroup parent that climbs', config({ linux: { ...LinuxPodSandboxConfig.create(), cgroupParent: '/a/../../b' } }), /cgroup_parent.*"\.\."/],
  ["a sysctl that is the host's", linux({}, { 'kernel.panic': '1' }), /"kernel\.panic" is not namespaced/],
  ['a sysctl that climbs', linux({}, { 'net/../kernel/panic': '1' }), /is not a name/],
  ["a network sysctl with the host's network", linux({ network: NamespaceMode.NODE }, { 'net.ipv4.ip_forward': '1' }), /cannot be set with the host's network/],
  ["an ipc sysctl with the host's ipc", linux({ ipc: NamespaceMode.NODE }, { 'kernel.shmmax': '1' }), /cannot be set with the host's ipc/],
];
for (const [what, asked, message] of refused) {
  test(`${what} is refused with the field's name`, () => assert.throws(() => sandboxWish(asked), { kind: 'invalid', message }));
}

test('sysctls of the pod are taken, dotted or with slashes', () => {
  const sysctls = { 'net.ipv4.ip_unprivileged_port_start': '0', 'net/ipv4/conf/eth0.1/forwarding': '1', 'kernel.shm_rmid_forced': '1', 'fs.mqueue.msg_max': '20' };
  assert.deepEqual(sandboxWish(linux({}, sysctls)).sysctls, sysctls);
});

test('resolv.conf holds what the pod was given, and says nothing when it was given nothing', () => {
  assert.equal(resolvConf({ servers: [], searches: [], options: [] }), undefined);
  assert.equal(
    resolvConf({ servers: ['10.96.0.10', '::1'], searches: ['a.local', 'b'], options: ['ndots:5', 'timeout:1'] }),
    'search a.local b\nnameserver 10.96.0.10\nnameserver ::1\noptions ndots:5 timeout:1\n',
  );
});

test('the hosts file names the pod at each of its addresses', () => {
  assert.match(hostsFile('web', ['10.1.0.2', 'fd00::2']), /^127\.0\.0\.1\tlocalhost$[^]*^10\.1\.0\.2\tweb$[^]*^fd00::2\tweb$/m);
});
