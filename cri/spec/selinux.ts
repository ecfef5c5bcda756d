/** SELinux labels of a pod: its processes, its files, and a level that no other pod has. Pure. */
import type { LinuxContainerSecurityContext, SELinuxOption } from '#cri-api';
import { Fault } from '#host/fault.ts';

export interface SelinuxLabels {
  /** `user:role:type:level` of the processes. */
  readonly process: string;
  /** Of the files that they may use. */
  readonly mount: string;
}

/** Types of the policy container-selinux. */
const processType = 'container_t';
const fileType = 'container_file_t';
const categories = 1024;

/** Undefined where SELinux is off or the container is privileged. `level` is the pod's, for a container that does not ask for one. */
export function selinuxLabels(
  context: Pick<LinuxContainerSecurityContext, 'privileged' | 'selinuxOptions'> | undefined,
  host: { enabled: boolean; level: string },
): SelinuxLabels | undefined {
  if (!host.enabled || context?.privileged === true) return undefined;
  const { user = '', role = '', type = '', level = '' } = context?.selinuxOptions ?? {};
  const own = level || host.level;
  return { process: [user || 'system_u', role || 'system_r', type || processType, own].join(':'), mount: mountLabel(own) };
}

export const mountLabel = (level: string): string => `system_u:object_r:${fileType}:${level}`;

/**
 * The level of a new pod: what it asks for, or two categories that no pod has yet, so that one pod's processes cannot use another's files. `random`
 * gives numbers from 0 to below 1. Fault 'exhausted' when all half a million pairs are taken.
 */
export function podLevel(asked: SELinuxOption | undefined, taken: ReadonlySet<string>, random: () => number): string {
  if (asked !== undefined && asked.level !== '') return asked.level;
  const pairs = (categories * (categories - 1)) / 2;
  if (taken.size >= pairs) throw new Fault('exhausted', 'all SELinux categories are taken by pods');
  for (;;) {
    const [a, b] = [random(), random()].map((number) => Math.floor(number * categories));
    if (a === undefined || b === undefined || a === b) continue;
    const level = `s0:c${Math.min(a, b)},c${Math.max(a, b)}`;
    if (!taken.has(level)) return level;
  }
}

/** Directories of the host that its own programs need as they are. Source: opencontainers/selinux go-selinux label.Relabel. */
const hostDirectories: readonly string[] = [
  '/', '/bin', '/boot', '/dev', '/etc', '/etc/passwd', '/etc/pki', '/etc/shadow', '/home', '/lib', '/lib64', '/media', '/opt', '/proc', '/root', '/run', '/sbin',
  '/srv', '/sys', '/system', '/tmp', '/usr', '/var', '/var/lib', '/var/log',
];

/** Fault 'invalid' for a directory whose relabelling would break the host. */
export function assertMayRelabel(path: string): void {
  if (hostDirectories.includes(path)) throw new Fault('invalid', `mount of ${path}: relabelling it for SELinux would break the host`);
}
