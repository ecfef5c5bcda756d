/** The phase of a pod from the statuses of its containers. Source: kubelet 1.37 pkg/kubelet/kubelet_pods.go, getPhase. */
import { isSidecar, isStaticPod } from '../kube/pod-facts.ts';
import type { Container, ContainerStatus, Pod } from '../kube/types.ts';
import { restartsAfter } from './restart.ts';

export type Phase = 'Pending' | 'Running' | 'Succeeded' | 'Failed';

export interface PhaseInputs {
  readonly pod: Pod;
  /** Of app and init containers. */
  readonly statuses: readonly ContainerStatus[];
  /** Nothing of the pod will be started any more. */
  readonly isEnding: boolean;
  /** A container of the pod has started in the sandbox that is alive. */
  readonly hasStarted: boolean;
}

interface Counts {
  running: number;
  waiting: number;
  stopped: number;
  finallyStopped: number;
  succeeded: number;
  unknown: number;
  pendingInit: number;
  pendingSidecar: number;
  finallyFailedInit: number;
}

export function phaseOf(inputs: PhaseInputs): Phase {
  const counts = count(inputs);
  if (counts.finallyFailedInit > 0) return 'Failed';
  if (counts.pendingInit > 0 || (counts.pendingSidecar > 0 && !inputs.hasStarted) || counts.waiting > 0) return 'Pending';
  if (counts.unknown > 0) return 'Pending';
  if (counts.running > 0) return 'Running';
  if (counts.stopped === 0) return 'Pending';
  const ended = counts.stopped === counts.succeeded ? 'Succeeded' : 'Failed';
  if (inputs.isEnding && !isStaticPod(inputs.pod)) return ended;
  return counts.stopped === counts.finallyStopped ? ended : 'Running';
}

function count({ pod, statuses }: PhaseInputs): Counts {
  const counts: Counts = { running: 0, waiting: 0, stopped: 0, finallyStopped: 0, succeeded: 0, unknown: 0, pendingInit: 0, pendingSidecar: 0, finallyFailedInit: 0 };
  const statusOf = ({ name }: Container): ContainerStatus | undefined => statuses.find((status) => status.name === name);
  for (const container of pod.spec?.initContainers ?? []) {
    if (isSidecar(container)) countSidecar(counts, statusOf(container));
    else countInit(counts, pod, container, statusOf(container));
  }
  for (const container of pod.spec?.containers ?? []) countApp(counts, pod, container, statusOf(container));
  return counts;
}

function countInit(counts: Counts, pod: Pod, container: Container, status: ContainerStatus | undefined): void {
  const ended = status?.state?.terminated ?? (status?.state?.waiting === undefined ? undefined : status.lastState?.terminated);
  if (ended === undefined) counts.pendingInit += 1;
  else if (ended.exitCode !== 0) {
    if (!restartsAfter(pod, container, ended.exitCode)) counts.finallyFailedInit += 1;
    else counts.pendingInit += status?.state?.terminated === undefined ? 0 : 1;
  }
}

/** Sidecars hold the phase only until they have started once. */
function countSidecar(counts: Counts, status: ContainerStatus | undefined): void {
  if (status === undefined) counts.unknown += 1;
  else if (status.state?.running !== undefined) {
    if (status.started !== true) counts.pendingSidecar += 1;
    counts.running += 1;
  } else if (status.state?.waiting !== undefined && status.lastState?.terminated === undefined) {
    counts.pendingSidecar += 1;
    counts.waiting += 1;
  }
}

function countApp(counts: Counts, pod: Pod, container: Container, status: ContainerStatus | undefined): void {
  const { running, terminated, waiting } = status?.state ?? {};
  const before = status?.lastState?.terminated;
  if (running !== undefined) counts.running += 1;
  else if (terminated !== undefined) {
    counts.stopped += 1;
    if (terminated.exitCode === 0) counts.succeeded += 1;
    if (!restartsAfter(pod, container, terminated.exitCode)) counts.finallyStopped += 1;
  } else if (waiting !== undefined && before !== undefined) {
    counts.stopped += 1;
    if (!restartsAfter(pod, container, before.exitCode)) counts.finallyStopped += 1;
  } else if (waiting !== undefined) counts.waiting += 1;
  else counts.unknown += 1;
}
