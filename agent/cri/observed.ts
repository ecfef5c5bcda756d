/** What the runtime has, grouped by pod UID: a cheap summary for the relist, and one pod in full for its worker. */
import {
  ContainerState as CriContainerState, NamespaceMode, PodSandboxState,
  type Container, type ContainerStatus, type PodSandbox, type PodSandboxStatus,
} from '#cri-api';
import { containerNameLabel, containerNotes, podIdentity, type ContainerNotes, type PodIdentity } from './labels.ts';

export type RunState = 'created' | 'running' | 'exited' | 'unknown';

/** One pod as the lists show it. */
export interface RuntimePod extends PodIdentity {
  readonly sandboxes: readonly { readonly id: string; readonly ready: boolean; readonly createdAtNs: bigint }[];
  readonly containers: readonly { readonly id: string; readonly name: string; readonly state: RunState; readonly sandboxId: string; readonly createdAtNs: bigint }[];
}

export interface ObservedSandbox {
  readonly id: string;
  readonly attempt: number;
  readonly ready: boolean;
  readonly createdAtNs: bigint;
  readonly hostNetwork: boolean;
  /** Primary first; empty on the host's network. */
  readonly ips: readonly string[];
}

export interface ObservedContainer {
  readonly id: string;
  readonly sandboxId: string;
  readonly name: string;
  readonly state: RunState;
  readonly createdAtNs: bigint;
  /** 0 when it never started. */
  readonly startedAtNs: bigint;
  /** 0 while it has not finished. */
  readonly finishedAtNs: bigint;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly image: string;
  readonly imageRef: string;
  readonly logPath: string;
  readonly notes: ContainerNotes;
  readonly mounts: readonly { readonly containerPath: string; readonly hostPath: string }[];
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] } | undefined;
}

/** One pod with the status of everything in it, both lists newest first. */
export interface ObservedPod {
  readonly uid: string;
  readonly sandboxes: readonly ObservedSandbox[];
  readonly containers: readonly ObservedContainer[];
}

const runStates: Readonly<Record<number, RunState>> = {
  [CriContainerState.CONTAINER_CREATED]: 'created',
  [CriContainerState.CONTAINER_RUNNING]: 'running',
  [CriContainerState.CONTAINER_EXITED]: 'exited',
};
const runState = (state: number): RunState => runStates[state] ?? 'unknown';

const newestFirst = (one: { createdAtNs: bigint }, other: { createdAtNs: bigint }): number => (one.createdAtNs < other.createdAtNs ? 1 : one.createdAtNs > other.createdAtNs ? -1 : 0);

/** Sandboxes and containers without a pod's labels belong to somebody else and are left alone. */
export function groupByPod(sandboxes: readonly PodSandbox[], containers: readonly Container[]): Map<string, RuntimePod> {
  const pods = new Map<string, { identity: PodIdentity; sandboxes: RuntimePod['sandboxes'][number][]; containers: RuntimePod['containers'][number][] }>();
  const podOf = (labels: Record<string, string>) => {
    const identity = podIdentity(labels);
    if (identity === undefined) return undefined;
    const found = pods.get(identity.uid) ?? { identity, sandboxes: [], containers: [] };
    pods.set(identity.uid, found);
    return found;
  };
  for (const sandbox of sandboxes) {
    podOf(sandbox.labels)?.sandboxes.push({ id: sandbox.id, ready: sandbox.state === PodSandboxState.SANDBOX_READY, createdAtNs: sandbox.createdAt });
  }
  for (const { id, labels, state, podSandboxId, createdAt } of containers) {
    const name = labels[containerNameLabel];
    if (name !== undefined) podOf(labels)?.containers.push({ id, name, state: runState(state), sandboxId: podSandboxId, createdAtNs: createdAt });
  }
  return new Map(
    [...pods].map(([uid, pod]) => [uid, { ...pod.identity, sandboxes: pod.sandboxes.toSorted(newestFirst), containers: pod.containers.toSorted(newestFirst) }]),
  );
}

export function observedSandbox(status: PodSandboxStatus): ObservedSandbox {
  const hostNetwork = status.linux?.namespaces?.options?.network === NamespaceMode.NODE;
  const ips = [status.network?.ip ?? '', ...(status.network?.additionalIps ?? []).map(({ ip }) => ip)].filter((ip) => ip !== '');
  return {
    id: status.id,
    attempt: status.metadata?.attempt ?? 0,
    ready: status.state === PodSandboxState.SANDBOX_READY,
    createdAtNs: status.createdAt,
    hostNetwork,
    ips: hostNetwork ? [] : ips,
  };
}

export function observedContainer(status: ContainerStatus, sandboxId: string): ObservedContainer {
  const linux = status.user?.linux;
  return {
    id: status.id,
    sandboxId,
    name: status.labels[containerNameLabel] ?? status.metadata?.name ?? '',
    state: runState(status.state),
    createdAtNs: status.createdAt,
    startedAtNs: status.startedAt,
    finishedAtNs: status.finishedAt,
    exitCode: status.exitCode,
    reason: status.reason,
    message: status.message,
    image: status.image?.image ?? '',
    imageRef: status.imageRef,
    logPath: status.logPath,
    notes: containerNotes(status.annotations),
    mounts: status.mounts.map(({ containerPath, hostPath }) => ({ containerPath, hostPath })),
    user: linux === undefined ? undefined : { uid: Number(linux.uid), gid: Number(linux.gid), supplementalGroups: linux.supplementalGroups.map(Number) },
  };
}

export const orderedPod = (uid: string, sandboxes: readonly ObservedSandbox[], containers: readonly ObservedContainer[]): ObservedPod => ({
  uid,
  sandboxes: sandboxes.toSorted((one, other) => other.attempt - one.attempt || newestFirst(one, other)),
  containers: containers.toSorted(newestFirst),
});

/** The newest sandbox if it is ready. */
export const activeSandbox = (pod: ObservedPod): ObservedSandbox | undefined => (pod.sandboxes[0]?.ready === true ? pod.sandboxes[0] : undefined);

/** The newest instance of a container, in whichever sandbox. */
export const newestContainer = (pod: ObservedPod, name: string): ObservedContainer | undefined => pod.containers.find((container) => container.name === name);

/** The newest instance in the sandbox that is alive; instances of earlier sandboxes do not count as progress. */
export function activeContainer(pod: ObservedPod, name: string): ObservedContainer | undefined {
  const sandbox = activeSandbox(pod);
  return sandbox === undefined ? undefined : pod.containers.find((container) => container.name === name && container.sandboxId === sandbox.id);
}
