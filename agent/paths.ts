/** Where the agent keeps what: one directory per pod below its root, logs where every log shipper looks for them. */
import { join } from 'node:path';

export interface AgentPaths {
  readonly root: string;
  readonly podsDir: string;
  readonly cgroupDriverFile: string;
  podDir(uid: string): string;
  /** Volumes and termination message files of a pod live below its directory; nothing else of the agent does. */
  podVolumesDir(uid: string): string;
  podContainerDir(uid: string, container: string): string;
  etcHosts(uid: string): string;
  readonly podLogsRoot: string;
  /** `<namespace>_<name>_<uid>`, as the kubelet names it. */
  podLogsDir(pod: { namespace: string; name: string; uid: string }): string;
  readonly containerLogsDir: string;
  /** Where a seccomp profile `Localhost` is looked up. */
  readonly seccompDir: string;
}

/** `root` is nodelet's root (`/var/lib/nodelet`), `podLogsRoot` usually `/var/log/pods`. */
export function agentPaths(options: { root: string; podLogsRoot: string; containerLogsDir: string }): AgentPaths {
  const root = join(options.root, 'agent');
  const podsDir = join(root, 'pods');
  const podDir = (uid: string): string => join(podsDir, uid);
  return {
    root,
    podsDir,
    cgroupDriverFile: join(root, 'cgroup-driver'),
    podDir,
    podVolumesDir: (uid) => join(podDir(uid), 'volumes'),
    podContainerDir: (uid, container) => join(podDir(uid), 'containers', container),
    etcHosts: (uid) => join(podDir(uid), 'etc-hosts'),
    podLogsRoot: options.podLogsRoot,
    podLogsDir: ({ namespace, name, uid }) => join(options.podLogsRoot, `${namespace}_${name}_${uid}`),
    containerLogsDir: options.containerLogsDir,
    seccompDir: join(root, 'seccomp'),
  };
}
