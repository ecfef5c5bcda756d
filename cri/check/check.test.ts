/** Machines written down, and what is said of them; and the parsers of what the kernel tells. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostFacts, Wanted } from './facts.ts';
import type { Verdict } from './finding.ts';
import { judge } from './judge.ts';
import { parseListening } from './read-proc.ts';
import { writeReport } from './report.ts';

const gib = 1024 ** 3;
const program = (name: string): HostFacts['conmon'] => ({ name, path: `/usr/bin/${name}`, version: `${name} 1.0` });
const good: HostFacts = {
  isRoot: true, hostName: 'worker-1', system: 'Debian GNU/Linux 13 (trixie)',
  kernel: {
    release: '6.12.48+deb13-amd64', fileSystems: ['ext4', 'overlay'], namespaces: ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts'], maxUserNamespaces: 30_000,
    seccompActions: ['kill_process', 'user_notif', 'allow'], appArmor: { isEnabled: true, hasParser: true }, selinux: 'permissive',
    sysctls: { 'net.ipv4.ip_forward': '1', 'net.bridge.bridge-nf-call-iptables': '1', 'fs.inotify.max_user_instances': '8192' },
  },
  cgroup: { layout: 'v2', controllers: ['cpuset', 'cpu', 'io', 'memory', 'hugetlb', 'pids'], makeFailure: undefined },
  runtimes: [{ ...program('crun'), failure: undefined }, { ...program('runc'), failure: undefined }],
  conmon: program('conmon'), podInit: program('catatonit'), iptables: program('iptables'), criu: program('criu'),
  storage: { dir: '/var/lib', fileSystem: 'ext4', totalBytes: 100 * gib, availableBytes: 60 * gib, totalInodes: 1e6, freeInodes: 9e5, overlayFailure: undefined },
  network: {
    confDir: '/etc/cni/net.d', binDirs: ['/opt/cni/bin', '/usr/lib/cni'], isGenerated: false, defaultRoute: true, natFailure: undefined,
    status: { ready: true, network: 'pods', source: '/etc/cni/net.d/10-pods.conflist' },
  },
  swapBytes: 0, memoryBytes: 8 * gib, openFiles: { soft: 1024, hard: 1_048_576 }, listeners: [], isClockSynchronised: true, nowMs: Date.UTC(2026, 10, 24),
};
const wanted: Wanted = { rootDir: '/var/lib/nodelet', areRuntimesConfigured: false, defaultRuntime: undefined, ports: [{ port: 10_250, what: 'the agent' }], nodeName: 'worker-1' };

const problems = (facts: HostFacts, wish: Wanted = wanted): string[] =>
  judge(facts, wish).filter(({ verdict }) => verdict !== 'ok').map(({ topic, verdict, message, remedy }) => `${verdict} ${topic}: ${message}${remedy === undefined ? '' : ` -> ${remedy}`}`);

test('nothing is wrong with a good machine', () => assert.deepEqual(problems(good), []));

const absent = (name: string): HostFacts['conmon'] => ({ name, path: undefined, version: '' });
const kernel = (change: Partial<HostFacts['kernel']>): HostFacts => ({ ...good, kernel: { ...good.kernel, ...change } });
const cgroup = (change: Partial<HostFacts['cgroup']>): HostFacts => ({ ...good, cgroup: { ...good.cgroup, ...change } });
const storage = (change: Partial<HostFacts['storage']>): HostFacts => ({ ...good, storage: { ...good.storage, ...change } });
const network = (change: Partial<HostFacts['network']>): HostFacts => ({ ...good, network: { ...good.network, ...change } });
const crunFails = { ...program('crun'), failure: 'cgroups in hybrid mode not supported' };

const cases: [string, HostFacts, Partial<Wanted>, Verdict, RegExp][] = [
  ['an old kernel', kernel({ release: '5.10.0-30-amd64' }), {}, 'warn', /^warn kernel: Linux 5\.10\.0-30-amd64: nodelet is tested from 6\.1 on -> a newer kernel/],
  ['no overlay', kernel({ fileSystems: ['ext4'] }), {}, 'fail', /overlay: the kernel does not know this file system -> modprobe overlay && echo overlay >>\/etc\/modules-load\.d\/nodelet\.conf$/],
  ['a kernel without network namespaces', kernel({ namespaces: ['mnt', 'pid', 'ipc', 'uts', 'user'] }), {}, 'fail', /the kernel has no net -> .*CONFIG_NET_NS/],
  ['user namespaces forbidden', kernel({ maxUserNamespaces: 0 }), {}, 'note', /forbidden.*-> sysctl -w user\.max_user_namespaces/],
  ['no seccomp', kernel({ seccompActions: [] }), {}, 'warn', /^warn security: seccomp: the kernel has none/],
  ['AppArmor without its parser', kernel({ appArmor: { isEnabled: true, hasParser: false } }), {}, 'warn', /apt-get install apparmor$/],
  ['no AppArmor', kernel({ appArmor: { isEnabled: false, hasParser: false } }), {}, 'note', /AppArmor: the kernel does not use it/],
  ['no cgroups', cgroup({ layout: 'none', controllers: [], makeFailure: 'x' }), {}, 'fail', /no hierarchy is mounted -> mount -t cgroup2/],
  ['hybrid cgroups', cgroup({ layout: 'hybrid' }), {}, 'note', /hybrid.*-> systemd\.unified_cgroup_hierarchy=1/],
  ['the memory controller switched off', cgroup({ controllers: ['cpu', 'cpuset', 'io', 'pids', 'hugetlb'] }), {}, 'fail', /controllers missing: memory -> cgroup_enable=memory/],
  ['no delegation', cgroup({ makeFailure: 'mkdir /sys/fs/cgroup/x: EROFS' }), {}, 'fail', /cannot be made: .*EROFS -> .*Delegate=yes/],
  ['the first runtime does not work here, another does', { ...good, runtimes: [crunFails, good.runtimes[1]!] }, {}, 'note', /crun 1\.0 .* cannot create a container here: cgroups in hybrid mode not supported; runc can$/],
  ['a configured runtime does not work here', { ...good, runtimes: [crunFails, good.runtimes[1]!] }, { areRuntimesConfigured: true }, 'fail', /cannot create a container here.*-> .*cri\.runtimes/],
  ['no runtime works', { ...good, runtimes: [crunFails, { ...absent('runc'), failure: undefined }] }, {}, 'fail', /crun 1\.0.*cannot create[^]*-> another runtime: apt-get install runc/],
  ['no runtime installed', { ...good, runtimes: ['crun', 'runc'].map((name) => ({ ...absent(name), failure: undefined })) }, {}, 'fail', /crun is not installed -> apt-get install crun\nfail programs: runc is not installed/],
  ['a default runtime that is not there', good, { defaultRuntime: 'kata' }, 'fail', /cri\.defaultRuntime: kata is none of those that work/],
  ['no conmon', { ...good, conmon: absent('conmon') }, {}, 'fail', /conmon is not installed.*-> apt-get install conmon$/],
  ['no catatonit', { ...good, podInit: absent('catatonit') }, {}, 'warn', /shareProcessNamespace.*-> apt-get install catatonit$/],
  ['no iptables', { ...good, iptables: absent('iptables') }, {}, 'warn', /-> apt-get install iptables$/],
  ['iptables without nat', network({ natFailure: 'can\'t initialize iptables table `nat\'' }), {}, 'warn', /no nat table: can't initialize .*-> modprobe nf_nat/],
  ['no forwarding', kernel({ sysctls: { ...good.kernel.sysctls, 'net.ipv4.ip_forward': '0' } }), {}, 'warn', /-> sysctl -w net\.ipv4\.ip_forward=1, and the same in \/etc\/sysctl\.d/],
  ['br_netfilter not loaded', kernel({ sysctls: { 'net.ipv4.ip_forward': '1', 'fs.inotify.max_user_instances': '8192' } }), {}, 'note', /br_netfilter is not loaded.*-> modprobe br_netfilter/],
  ['a plugin missing', network({ status: { ready: false, message: 'Network plugin returns error: failed to find plugin "bridge" in path [/opt/cni/bin]' } }), {}, 'fail', /^fail network: pod network: failed to find plugin "bridge".*-> apt-get install containernetworking-plugins/],
  ['no network yet', network({ status: { ready: false, message: 'Network plugin returns error: cni plugin not initialized: no network configuration in /etc/cni/net.d' } }), {}, 'note', /has no configuration; the node is not ready until/],
  ['a root where overlays do not work', storage({ fileSystem: 'nfs4', overlayFailure: 'mount: EINVAL' }), {}, 'fail', /overlays do not work on nfs4, .*: it is NFS: mount: EINVAL -> another file system/],
  ['a root in memory', storage({ fileSystem: 'tmpfs' }), {}, 'note', /in memory: images and records are gone/],
  ['a full disk', storage({ availableBytes: gib }), {}, 'fail', /only 1\.0 GiB of 100\.0 GiB free/],
  ['a nearly full disk', storage({ availableBytes: 5 * gib }), {}, 'warn', /5\.0 GiB of 100\.0 GiB free.*disk pressure/],
  ['no inodes left', storage({ freeInodes: 100 }), {}, 'warn', /only 100 of 1000000 inodes/],
  ['btrfs, which has no fixed inodes', storage({ fileSystem: 'btrfs', totalInodes: 0, freeInodes: 0, overlayFailure: 'x' }), {}, 'fail', /^fail storage: overlays do not work on btrfs[^\n]*$/],
  ['tmpfs before it could be idmapped', { ...storage({ fileSystem: 'tmpfs' }), kernel: { ...good.kernel, release: '6.1.0-40-amd64' } }, {}, 'note', /no idmapped mounts of tmpfs here: .*-> Linux 6\.3\n/],
  ['not root', { ...good, isRoot: false }, {}, 'fail', /-> sudo nodelet check$/],
  ['a host name that is no node name', good, { nodeName: 'my_box' }, 'fail', /is no node name -> hostnamectl/],
  ['a kubelet on the port', { ...good, listeners: [{ port: 10_250, pid: 71, program: 'kubelet' }] }, {}, 'fail', /port 10250 is wanted for the agent, but held by kubelet \(pid 71\) -> systemctl disable --now kubelet/],
  ['a clock that says 1970', { ...good, nowMs: 0 }, {}, 'fail', /the clock says 1970/],
  ['a clock that nobody keeps right', { ...good, isClockSynchronised: false }, {}, 'note', /-> apt-get install systemd-timesyncd$/],
  ['swap', { ...good, swapBytes: 2 * gib }, {}, 'note', /2\.0 GiB of swap/],
  ['few files', { ...good, openFiles: { soft: 1024, hard: 4096 } }, {}, 'warn', /may open only 4096 files -> LimitNOFILE/],
  ['few watches', kernel({ sysctls: { ...good.kernel.sysctls, 'fs.inotify.max_user_instances': '128' } }), {}, 'note', /max_user_instances is 128/],
];
for (const [name, facts, wish, verdict, message] of cases) {
  test(`${name}: ${verdict}`, () => {
    const said = problems(facts, { ...wanted, ...wish });
    assert.match(said.join('\n'), message);
    const worst = (['fail', 'warn', 'note'] as const).find((each) => said.some((line) => line.startsWith(each)));
    assert.equal(worst, verdict);
  });
}

test('a running nodelet may hold its ports', () => assert.deepEqual(problems({ ...good, listeners: [{ port: 10_250, pid: 7, program: 'nodelet' }] }), []));

test('the report is read from its last line', () => {
  const lines = writeReport('w: Debian', judge({ ...good, conmon: absent('conmon') }, wanted)).split('\n');
  assert.equal(lines.at(-1), 'Not fit to be a node: 1 thing to mend (0 warnings, 0 notes).');
  const at = lines.findIndex((line) => line.startsWith('  FAIL'));
  assert.deepEqual(lines.slice(at, at + 2), ['  FAIL  conmon is not installed: it holds each container\'s log and exit code', '        -> apt-get install conmon']);
  assert.match(writeReport('w', judge(good, wanted)), /\nFit to be a node \(0 warnings, 0 notes\)\.$/);
});

test('of /proc/net/tcp only what listens counts', () => {
  // From a Debian 12 machine, 2026.
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2808 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 83215 1 0000000000000000 100 0 0 10 0
   1: 0100007F:B1A6 0100007F:2808 01 00000000:00000000 00:00000000 00000000     0        0 83300 1 0000000000000000 20 4 30 10 -1`;
  assert.deepEqual(parseListening(table), [{ port: 10_248, inode: '83215' }]);
});
