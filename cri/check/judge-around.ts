/** The second half of the judgement: network, disk, and the machine as a whole. Pure. */
import type { HostFacts, StorageFacts, Wanted } from './facts.ts';
import { fail, type Judged, note, ok, sysctlFile, warn } from './finding.ts';

const sysctl = (name: string, value: string): string => `sysctl -w ${name}=${value}, and the same in ${sysctlFile}`;

export function judgeNetwork({ network, kernel, iptables }: HostFacts): Judged[] {
  const { status, confDir, binDirs, isGenerated, defaultRoute, natFailure } = network;
  const forwarding = kernel.sysctls['net.ipv4.ip_forward'];
  const bridged = kernel.sysctls['net.bridge.bridge-nf-call-iptables'];
  return [
    podNetwork(status, { confDir, binDirs, isGenerated }),
    forwarding === '1' ? ok('IPv4 forwarding') : warn('IPv4 forwarding is off: pods reach nobody outside this machine', sysctl('net.ipv4.ip_forward', '1')),
    bridged === '1'
      ? ok('bridged packets pass iptables')
      : note(`bridged packets do not pass iptables${bridged === undefined ? ' (br_netfilter is not loaded)' : ''}: kube-proxy in iptables mode needs it for pods that talk to a Service on their own node`,
        `modprobe br_netfilter && ${sysctl('net.bridge.bridge-nf-call-iptables', '1')}`),
    ...(iptables.path === undefined ? [] : [
      natFailure === undefined ? ok('iptables: nat table') : warn(`iptables has no nat table: ${natFailure}`, 'modprobe nf_nat, or as root; another backend: update-alternatives --config iptables'),
    ]),
    ...(defaultRoute ? [] : [note('no default route: images come only from registries on the local network')]),
  ];
}

function podNetwork(status: HostFacts['network']['status'], where: { confDir: string; binDirs: readonly string[]; isGenerated: boolean }): Judged {
  if (status.ready) return ok(where.isGenerated ? `pod network: a bridge of nodelet's own, for ${where.confDir} has no configuration` : `pod network ${status.network} (${status.source})`);
  if (/no network configuration in/.test(status.message)) {
    return note(`pod network: ${where.confDir} has no configuration; the node is not ready until a network add-on brings one or the cluster gives it a range of addresses`, 'install a network add-on, or see cri.cni.podCidrs');
  }
  return fail(`pod network: ${status.message.replace(/^Network plugin returns error: /, '')}`, `apt-get install containernetworking-plugins, or the network add-on's own installer; plugins are searched in ${where.binDirs.join(', ')}`);
}

const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
const leastBytes = 2 * 1024 ** 3;
/** The kubelet's default: below it images are collected and pods evicted. */
const leastShare = 0.1;
const knownUnfit: Readonly<Record<string, string>> = { nfs: 'NFS', nfs4: 'NFS', cifs: 'SMB', overlay: 'an overlay (a container\'s own root)', fuse: 'FUSE', '9p': '9P', vfat: 'FAT' };

/** Since which Linux a file system can be mounted with other owners (mount_setattr(2)); overlays themselves since 5.19. */
const idmappedSince: Readonly<Record<string, number>> = { ext4: 5.12, xfs: 5.12, btrfs: 5.15, f2fs: 5.18, tmpfs: 6.3 };

function idmapped({ fileSystem }: StorageFacts, release: string): Judged {
  const [major = '0', minor = '0'] = release.split('.');
  const since = idmappedSince[fileSystem] ?? Infinity;
  const [sinceMajor = 0, sinceMinor = 0] = String(since).split('.').map(Number);
  const has = since !== Infinity && (Number(major) > sinceMajor || (Number(major) === sinceMajor && Number.parseInt(minor, 10) >= sinceMinor));
  return has ? ok(`idmapped mounts of ${fileSystem}`) : note(`no idmapped mounts of ${fileSystem} here: pods with hostUsers: false will be refused`, since === Infinity ? 'ext4, xfs or btrfs' : `Linux ${since}`);
}

export function judgeStorage(storage: StorageFacts, { rootDir }: Wanted, release: string): Judged[] {
  const { fileSystem, availableBytes, totalBytes, freeInodes, totalInodes, overlayFailure } = storage;
  const elsewhere = `another file system (ext4, xfs with ftype=1, btrfs) at ${rootDir}, or cri.rootDir on one`;
  const unfit = knownUnfit[fileSystem];
  const room = `${gib(availableBytes)} of ${gib(totalBytes)} free for ${rootDir}`;
  return [
    overlayFailure === undefined
      ? ok(`overlays work on ${fileSystem}, where ${rootDir} is`)
      : fail(`overlays do not work on ${fileSystem}, where ${rootDir} is${unfit === undefined ? '' : `: it is ${unfit}`}: ${overlayFailure}`, elsewhere),
    idmapped(storage, release),
    ...(fileSystem === 'tmpfs' ? [note(`${rootDir} is in memory: images and records are gone after a reboot`, elsewhere)] : []),
    availableBytes < leastBytes ? fail(`only ${room}`, 'make room: nodelet image ls, journalctl --vacuum-size=200M')
      : availableBytes < totalBytes * leastShare ? warn(`${room}: under disk pressure from the start`, 'make room: nodelet image ls, journalctl --vacuum-size=200M') : ok(room),
    ...(totalInodes > 0 && freeInodes < totalInodes * leastShare / 2 ? [warn(`only ${freeInodes} of ${totalInodes} inodes are free`, 'a file system made with more inodes (mkfs.ext4 -i 8192, xfs has no such limit)')] : []),
  ];
}

const fewestFiles = 65_536;

export function judgeMachine(facts: HostFacts, wanted: Wanted): Judged[] {
  const { hostName, swapBytes, openFiles, kernel } = facts;
  const watches = Number(kernel.sysctls['fs.inotify.max_user_instances'] ?? 0);
  return [
    /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(wanted.nodeName) ? ok(`node name ${wanted.nodeName}`) : fail(`the host name ${hostName} is no node name`, 'hostnamectl hostname NAME, or agent.nodeName'),
    ...(/^(localhost|debian)$/.test(wanted.nodeName) ? [warn(`the node would be called ${wanted.nodeName}, as others may be`, 'hostnamectl hostname NAME, or agent.nodeName')] : []),
    ...wanted.ports.map((port) => portVerdict(facts, port)),
    clock(facts),
    swapBytes === 0 ? ok('no swap') : note(`${gib(swapBytes)} of swap: pods do not use it unless the cluster says so, but memory limits are less sharp`, 'swapoff -a, and its line in /etc/fstab'),
    openFiles.hard >= fewestFiles ? ok(`open files: ${openFiles.hard === Infinity ? 'no limit' : openFiles.hard}`) : warn(`this process may open only ${openFiles.hard} files`, 'LimitNOFILE=1048576 in the unit (manifests/systemd has it), or ulimit -Hn 1048576'),
    ...(watches > 0 && watches < 512 ? [note(`fs.inotify.max_user_instances is ${watches}: with many pods, programs fail with "too many open files"`, sysctl('fs.inotify.max_user_instances', '8192'))] : []),
  ];
}

function portVerdict({ listeners }: HostFacts, { port, what }: Wanted['ports'][number]): Judged {
  const holder = listeners.find((listener) => listener.port === port);
  if (holder === undefined) return ok(`port ${port} is free for ${what}`);
  const who = holder.pid === undefined ? 'somebody' : `${holder.program} (pid ${holder.pid})`;
  if (holder.program === 'nodelet') return ok(`port ${port} (${what}) is held by ${who}, a running nodelet`);
  return fail(`port ${port} is wanted for ${what}, but held by ${who}`, holder.program === 'kubelet' ? 'systemctl disable --now kubelet: nodelet takes its place' : `stop it, or agent.port and agent.healthzPort`);
}

const builtAtMs = Date.UTC(2026, 0, 1);

function clock({ nowMs, isClockSynchronised }: HostFacts): Judged {
  if (nowMs < builtAtMs) return fail(`the clock says ${new Date(nowMs).toISOString()}: certificates will not be valid`, 'apt-get install systemd-timesyncd, or date -s');
  if (isClockSynchronised === false) return note('nobody keeps the clock right: leases and certificates depend on it', 'apt-get install systemd-timesyncd');
  return ok(isClockSynchronised === true ? 'the clock is kept right' : 'the clock is plausible');
}
