/** Which namespaces a container joins, makes, or leaves alone. */
import { NamespaceMode, type NamespaceOption } from '#cri-api';
import type { OciNamespace } from '../oci/spec-types.ts';

/** Paths of the sandbox's pinned namespaces. Absent net, ipc or uts: the host's. Absent pid: the sandbox has none to share. */
export interface SandboxNamespaces {
  /** Owns the others. */
  readonly user?: string | undefined;
  readonly net?: string | undefined;
  readonly ipc?: string | undefined;
  readonly uts?: string | undefined;
  readonly pid?: string | undefined;
}

export interface NamespaceInput {
  readonly options: NamespaceOption | undefined;
  readonly sandbox: SandboxNamespaces;
  /** /proc/PID/ns/pid of the container named by `target_id`; needed for mode TARGET only. */
  readonly targetPid?: string | undefined;
  /** A cgroup namespace hides the host's groups; v2 only, and not for privileged containers (as containerd does). */
  readonly ownCgroup: boolean;
}

/** How the container's process ids relate to others: only with 'private' does the death of its first process end all the others. */
export type PidScope = 'private' | 'pod' | 'host' | 'target';

/** POD without a sandbox namespace to share means a private one: more isolation than asked for, never less. */
function pidScope(options: NamespaceOption | undefined, sandbox: SandboxNamespaces): PidScope {
  switch (options?.pid ?? NamespaceMode.POD) {
    case NamespaceMode.NODE:
      return 'host';
    case NamespaceMode.TARGET:
      return 'target';
    case NamespaceMode.POD:
      return sandbox.pid === undefined ? 'private' : 'pod';
    default:
      return 'private';
  }
}

const shares = (mode: NamespaceMode | undefined, path: string | undefined): string | undefined => (mode === NamespaceMode.NODE ? undefined : path);

export function containerNamespaces(input: NamespaceInput): OciNamespace[] {
  const { options, sandbox } = input;
  const namespaces: OciNamespace[] = [{ type: 'mount' }];
  const join = (type: OciNamespace['type'], path: string | undefined): void => {
    if (path !== undefined) namespaces.push({ type, path });
  };
  // First: what comes after it is made with the rights that it gives.
  join('user', sandbox.user);
  join('network', shares(options?.network, sandbox.net));
  join('ipc', shares(options?.ipc, sandbox.ipc));
  join('uts', sandbox.uts);
  switch (pidScope(options, sandbox)) {
    case 'private':
      namespaces.push({ type: 'pid' });
      break;
    case 'pod':
      join('pid', sandbox.pid);
      break;
    case 'target':
      join('pid', input.targetPid);
      break;
    case 'host':
      break;
  }
  if (input.ownCgroup) namespaces.push({ type: 'cgroup' });
  return namespaces;
}
