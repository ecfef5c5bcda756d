/** A container's mounts: the default ones, the pod's files, and the CRI's, which hide defaults at the same place. */
import { MountPropagation, type Mount } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { OciLinux, OciMount } from '../oci/spec-types.ts';
import { criMappings } from './user-namespace.ts';

/** The pod's own files and shared memory; `shm` is undefined where the container uses the host's ipc namespace. */
export interface PodFiles {
  readonly hosts: string;
  readonly hostname: string;
  readonly resolvConf: string;
  readonly shm: string | undefined;
}

/** A CRI mount whose source was looked at: it exists, symlinks are followed, and its propagation on the host is known. */
export interface PreparedMount {
  readonly mount: Mount;
  readonly source: string;
  /** Of the host mount that `source` lies on. */
  readonly hostPropagation: 'shared' | 'slave' | 'private';
  /** The ids of its files are those of the container's user namespace already. */
  readonly isMapped: boolean;
}

export interface MountInput {
  readonly mounts: readonly PreparedMount[];
  readonly pod: PodFiles;
  /** VOLUMEs of the image: place in the container → directory on the host. */
  readonly volumes: readonly { readonly containerPath: string; readonly source: string }[];
  /** What the OCI runtime can do with mounts. */
  readonly features: { readonly recursiveReadOnly: boolean };
  readonly readonlyRootfs: boolean;
  readonly privileged: boolean;
  /** The network is not that of the container's user namespace: the kernel lets only its owner mount a sysfs of it. */
  readonly isForeignNetwork: boolean;
  /** The container may write to its own groups (v2, privileged containers may anyway). */
  readonly cgroupWritable: boolean;
}

export interface MountPlan {
  readonly mounts: readonly OciMount[];
  /** Of the container's root, so that events reach (or leave) the mounts below it. */
  readonly rootfsPropagation: OciLinux['rootfsPropagation'];
}

const clean = (path: string): string => `/${path.split('/').filter((part) => part !== '' && part !== '.').join('/')}`;
const depth = (path: string): number => clean(path).split('/').filter((part) => part !== '').length;

/** Source: containerd pkg/oci/mounts.go and internal/cri/opts/spec_linux_opts.go. */
function systemMounts(input: MountInput): OciMount[] {
  const { privileged } = input;
  const writable = privileged ? 'rw' : 'ro';
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    input.isForeignNetwork
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev', 'ro'] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', writable] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: ['nosuid', 'noexec', 'nodev', 'relatime', privileged || input.cgroupWritable ? 'rw' : 'ro'],
    },
  ];
}

function podMounts(input: MountInput): OciMount[] {
  const { pod, readonlyRootfs } = input;
  const access = readonlyRootfs ? 'ro' : 'rw';
  const file = (destination: string, source: string): OciMount => ({ destination, type: 'bind', source, options: ['rbind', 'rprivate', access] });
  return [
    file('/etc/hosts', pod.hosts),
    file('/etc/hostname', pod.hostname),
    file('/etc/resolv.conf', pod.resolvConf),
    { destination: '/dev/shm', type: 'bind', source: pod.shm ?? '/dev/shm', options: ['rbind', 'rprivate', 'rw'] },
  ];
}

const propagationOption = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'rprivate',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'rslave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'rshared',
} as const;
type KnownPropagation = keyof typeof propagationOption;
const isKnown = (value: MountPropagation): value is KnownPropagation => value in propagationOption;

/** Options the CRI may ask for beyond read-only (Mount.mount_options). */
const extraOptions: readonly string[] = ['noexec', 'nodev', 'nosuid', 'exec', 'dev', 'suid', 'noatime', 'nodiratime', 'relatime', 'strictatime', 'nosymfollow'];

function criMount({ mount, source, hostPropagation, isMapped }: PreparedMount, features: MountInput['features']): OciMount {
  const place = mount.containerPath;
  const invalid = (why: string): Fault => new Fault('invalid', `mount ${place}: ${why}`);
  if (place === '') throw new Fault('invalid', `mount of ${mount.hostPath}: container_path is empty`);
  if (clean(place) === '/' || place.split('/').includes('..')) throw invalid('not a place for a mount');
  if (!isKnown(mount.propagation)) throw invalid(`unknown propagation ${String(mount.propagation)}`);
  const propagation = propagationOption[mount.propagation];
  if (mount.recursiveReadOnly && !mount.readonly) throw invalid('recursive_read_only needs readonly');
  if (mount.recursiveReadOnly && propagation !== 'rprivate') throw invalid('recursive_read_only needs private propagation');
  // A message that begins so tells clients that they may ask again without (k8s.io/cri-api pkg/errors ErrRROUnsupported).
  const isBeyondRuntime = mount.recursiveReadOnly && !features.recursiveReadOnly;
  if (isBeyondRuntime) throw new Fault('invalid', `RROUnsupported: mount ${place}: the OCI runtime cannot make mounts read-only recursively`);
  if (propagation === 'rshared' && hostPropagation !== 'shared') throw invalid(`path "${mount.hostPath}" is not on a shared mount, as bidirectional propagation needs`);
  if (propagation === 'rslave' && hostPropagation === 'private') throw invalid(`path "${mount.hostPath}" is not on a shared or slave mount`);
  const foreign = mount.mountOptions.find((option) => !extraOptions.includes(option));
  if (foreign !== undefined) throw invalid(`mount option ${JSON.stringify(foreign)} is not allowed`);
  const access = mount.recursiveReadOnly ? 'rro' : mount.readonly ? 'ro' : 'rw';
  return {
    destination: clean(place),
    type: 'bind',
    source,
    options: ['rbind', propagation, access, ...mount.mountOptions],
    ...(isMapped || mount.uidMappings.length === 0 ? {} : { uidMappings: criMappings(mount.uidMappings), gidMappings: criMappings(mount.gidMappings) }),
  };
}

/**
 * In the order in which they are made: the system's, then all others with parents before children. Fault 'invalid' names the mount.
 */
export function planMounts(input: MountInput): MountPlan {
  const asked = input.mounts.map((mount) => criMount(mount, input.features));
  const taken = new Set(asked.map((mount) => mount.destination));
  const hidden = (destination: string): boolean => taken.has(destination) || (taken.has('/dev') && destination.startsWith('/dev/'));
  const volumes = input.volumes
    .map(({ containerPath, source }): OciMount => ({ destination: clean(containerPath), type: 'bind', source, options: ['rbind', 'rprivate', 'rw'] }))
    .filter(({ destination }) => destination !== '/');
  const system = systemMounts(input).filter(({ destination }) => !hidden(destination));
  const ours = [...podMounts(input), ...volumes].filter(({ destination }) => !taken.has(destination));
  const byDepth = [...ours, ...asked].toSorted((a, b) => depth(a.destination) - depth(b.destination));
  const uses = (option: string): boolean => asked.some((mount) => mount.options.includes(option));
  return { mounts: [...system, ...byDepth], rootfsPropagation: uses('rshared') ? 'rshared' : uses('rslave') ? 'rslave' : undefined };
}
