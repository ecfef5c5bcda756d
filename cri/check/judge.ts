/** Is this machine fit to be a node? From facts to findings, each with what to do about it. Pure: reads like the list somebody goes through at night. */
import type { CgroupFacts, HostFacts, KernelFacts, Program, Wanted } from './facts.ts';
import { fail, type Finding, type Judged, modulesFile, note, ok, sysctlFile, warn } from './finding.ts';
import { judgeMachine, judgeNetwork, judgeStorage } from './judge-around.ts';

/** All findings, in the order of their topics. */
export function judge(facts: HostFacts, wanted: Wanted): Finding[] {
  // Whatever failed for the lack of rights would get a wrong remedy.
  if (!facts.isRoot) return [{ topic: 'machine', ...fail('not root: most of this cannot be tried, and nodelet cannot run', 'sudo nodelet check') }];
  const topics: readonly (readonly [Finding['topic'], readonly Judged[]])[] = [
    ['kernel', judgeKernel(facts.kernel)],
    ['cgroups', judgeCgroups(facts.cgroup)],
    ['security', judgeSecurity(facts.kernel)],
    ['programs', judgePrograms(facts, wanted)],
    ['network', judgeNetwork(facts)],
    ['storage', judgeStorage(facts.storage, wanted, facts.kernel.release)],
    ['machine', judgeMachine(facts, wanted)],
  ];
  return topics.flatMap(([topic, judged]) => judged.map((each): Finding => ({ topic, ...each })));
}

const oldestKernel = [6, 1] as const;

function judgeKernel(kernel: KernelFacts): Judged[] {
  const [major = 0, minor = 0] = kernel.release.split('.').map(Number.parseFloat);
  const isNewEnough = major > oldestKernel[0] || (major === oldestKernel[0] && minor >= oldestKernel[1]);
  const missing = ['mnt', 'pid', 'net', 'ipc', 'uts'].filter((name) => !kernel.namespaces.includes(name));
  return [
    isNewEnough ? ok(`Linux ${kernel.release}`) : warn(`Linux ${kernel.release}: nodelet is tested from ${oldestKernel.join('.')} on`, 'a newer kernel: Debian 12 has 6.1'),
    missing.length === 0
      ? ok('namespaces: mount, pid, net, ipc, uts')
      : fail(`namespaces: the kernel has no ${missing.join(', ')}`, 'a kernel with CONFIG_NAMESPACES, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS'),
    userNamespaces(kernel),
    kernel.fileSystems.includes('overlay')
      ? ok('overlay file system')
      : fail('overlay: the kernel does not know this file system', `modprobe overlay && echo overlay >>${modulesFile}`),
  ];
}

function userNamespaces(kernel: KernelFacts): Judged {
  if (!kernel.namespaces.includes('user') || kernel.maxUserNamespaces === undefined) return note('user namespaces: the kernel has none; pods with hostUsers: false will be refused', 'a kernel with CONFIG_USER_NS');
  if (kernel.maxUserNamespaces > 0) return ok('user namespaces');
  return note('user namespaces are forbidden; pods with hostUsers: false will be refused', `sysctl -w user.max_user_namespaces=15000, and the same in ${sysctlFile}`);
}

const neededControllers = ['cpu', 'memory', 'pids'] as const;
const usefulControllers = { cpuset: 'pinned processors', io: 'disk statistics', hugetlb: 'huge pages' } as const;

function judgeCgroups({ layout, controllers, makeFailure }: CgroupFacts): Judged[] {
  if (layout === 'none') return [fail('cgroups: no hierarchy is mounted', 'mount -t cgroup2 none /sys/fs/cgroup (systemd does it)')];
  const has = (name: string): boolean => controllers.includes(name) || (name === 'io' && controllers.includes('blkio'));
  const boot = layout === 'v2' ? 'cgroup_enable=memory on the kernel command line, or a kernel that has them' : 'a kernel that has them, or cgroup v2: systemd.unified_cgroup_hierarchy=1 on the kernel command line';
  const missing = neededControllers.filter((name) => !has(name));
  const useful = Object.entries(usefulControllers).filter(([name]) => !has(name));
  return [
    layout === 'v2'
      ? ok('cgroup v2')
      : note(`cgroup ${layout === 'v1' ? 'v1' : 'v1 with v2 beside it (hybrid)'}: works, but the stock kubelet refuses it since 1.35`, 'systemd.unified_cgroup_hierarchy=1 on the kernel command line, and reboot'),
    missing.length === 0 ? ok(`controllers: ${neededControllers.join(', ')}`) : fail(`cgroup controllers missing: ${missing.join(', ')}`, boot),
    ...useful.map(([name, what]) => note(`cgroup controller ${name} is missing: no ${what}`)),
    ...(makeFailure === undefined ? [] : [fail(`cgroups: a group cannot be made: ${makeFailure}`, 'run as root; as a systemd service with Delegate=yes; in a container with --cgroupns=private and /sys/fs/cgroup writable')]),
  ];
}

function judgeSecurity({ seccompActions, appArmor, selinux }: KernelFacts): Judged[] {
  return [
    seccompActions.length > 0 ? ok('seccomp') : warn('seccomp: the kernel has none, so RuntimeDefault confines nobody', 'a kernel with CONFIG_SECCOMP_FILTER'),
    ...(seccompActions.length > 0 && !seccompActions.includes('user_notif') ? [note('seccomp: no user notification; profiles with a listener will be refused')] : []),
    appArmorVerdict(appArmor),
    selinux === 'absent' ? note('SELinux: the kernel does not use it; labels in pods are ignored') : ok(`SELinux is ${selinux}`),
  ];
}

function appArmorVerdict({ isEnabled, hasParser }: KernelFacts['appArmor']): Judged {
  if (!isEnabled) return note('AppArmor: the kernel does not use it; pods that ask for a profile will be refused');
  return hasParser ? ok('AppArmor') : warn('AppArmor is enabled, but there is no apparmor_parser to load the default profile with', 'apt-get install apparmor');
}

const packageOf: Readonly<Record<string, string>> = { conmon: 'conmon', catatonit: 'catatonit', crun: 'crun', runc: 'runc', iptables: 'iptables' };
const install = ({ name }: Program): string => `apt-get install ${packageOf[name] ?? name}`;
const found = ({ name, path, version }: Program): Judged => ok(`${version === '' ? name : version} (${path})`);

function judgePrograms({ runtimes, conmon, podInit, iptables, criu }: HostFacts, wanted: Wanted): Judged[] {
  const working = runtimes.filter(({ path, failure }) => path !== undefined && failure === undefined);
  const needsEach = wanted.areRuntimesConfigured;
  const verdicts = runtimes.map((runtime): Judged => {
    if (runtime.path === undefined) return working.length > 0 && !needsEach ? note(`${runtime.name} is not installed; ${working[0]?.name} is`, install(runtime)) : fail(`${runtime.name} is not installed`, install(runtime));
    if (runtime.failure === undefined) return ok(`${runtime.version} (${runtime.path}) creates containers here`);
    const message = `${runtime.version || runtime.name} (${runtime.path}) cannot create a container here: ${runtime.failure}`;
    if (needsEach) return fail(message, 'another program of this kind in cri.runtimes, or none: then those that work are found');
    return working.length > 0 ? note(`${message}; ${working[0]?.name} can`) : fail(message, runtime.name === 'runc' ? 'its words name what the kernel, or the container that this runs in, does not allow' : 'another runtime: apt-get install runc works on every cgroup layout');
  });
  const isDefaultThere = wanted.defaultRuntime === undefined || working.some(({ name }) => name === wanted.defaultRuntime);
  return [
    ...verdicts,
    ...(runtimes.length === 0 ? [fail('no OCI runtime', 'apt-get install crun (or runc)')] : []),
    ...(isDefaultThere ? [] : [fail(`cri.defaultRuntime: ${wanted.defaultRuntime} is none of those that work`, 'another name there, or none')]),
    conmon.path === undefined ? fail(`${conmon.name} is not installed: it holds each container's log and exit code`, install({ ...conmon, name: 'conmon' })) : found(conmon),
    podInit.path === undefined ? warn(`${podInit.name} is not installed: pods with shareProcessNamespace will fail`, install({ ...podInit, name: 'catatonit' })) : found(podInit),
    iptables.path === undefined ? warn('iptables is not installed: pods of the generated network do not reach the outside, and there are no host ports', install(iptables)) : found(iptables),
    criu.path === undefined ? note('criu is not installed: no checkpoints of containers', install(criu)) : found(criu),
  ];
}
