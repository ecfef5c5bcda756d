/** The node's conditions, with times that move only when something changed. */
import type { NodeCondition } from '../kube/types.ts';

export interface NodeHealth {
  /** Why the node cannot run pods; empty = ready. The kubelet's words: see `runtimeProblems`. */
  readonly problems: readonly string[];
  readonly memoryPressure: boolean;
  readonly diskPressure: boolean;
  readonly pidPressure: boolean;
}

interface RuntimeCondition {
  readonly type: string;
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
}

/** From CRI Status; undefined = the runtime did not answer. Source: kubelet pkg/kubelet/runtime.go and kubelet.go updateRuntimeUp. */
export function runtimeProblems(conditions: readonly RuntimeCondition[] | undefined): string[] {
  if (conditions === undefined) return ['container runtime is down'];
  const text = (type: string, condition: RuntimeCondition | undefined): string =>
    condition === undefined ? `${type} condition not set` : `${type}=${condition.status} reason:${condition.reason} message:${condition.message}`;
  const problems: string[] = [];
  const runtime = conditions.find(({ type }) => type === 'RuntimeReady');
  const network = conditions.find(({ type }) => type === 'NetworkReady');
  if (runtime?.status !== true) problems.push(`container runtime not ready: ${text('RuntimeReady', runtime)}`);
  if (network?.status !== true) problems.push(`container runtime network not ready: ${text('NetworkReady', network)}`);
  return problems;
}

/** One message as Go's aggregated errors print: in brackets when there are several. */
const aggregate = (messages: readonly string[]): string => (messages.length === 1 ? (messages[0] ?? '') : `[${messages.join(', ')}]`);

/** `now`: RFC 3339 with seconds. Conditions that others put there (a network plugin's NetworkUnavailable) are not ours and are left out. */
export function nodeConditions(previous: readonly NodeCondition[], health: NodeHealth, now: string): NodeCondition[] {
  const isReady = health.problems.length === 0;
  const pressure = (type: string, isUnder: boolean, bad: [string, string], good: [string, string]): NodeCondition =>
    condition(previous, type, isUnder, ...(isUnder ? bad : good), now);
  return [
    pressure(
      'MemoryPressure', health.memoryPressure,
      ['KubeletHasInsufficientMemory', 'kubelet has insufficient memory available'], ['KubeletHasSufficientMemory', 'kubelet has sufficient memory available'],
    ),
    pressure('DiskPressure', health.diskPressure, ['KubeletHasDiskPressure', 'kubelet has disk pressure'], ['KubeletHasNoDiskPressure', 'kubelet has no disk pressure']),
    pressure('PIDPressure', health.pidPressure, ['KubeletHasInsufficientPID', 'kubelet has insufficient PID available'], ['KubeletHasSufficientPID', 'kubelet has sufficient PID available']),
    condition(previous, 'Ready', isReady, isReady ? 'KubeletReady' : 'KubeletNotReady', isReady ? 'kubelet is posting ready status' : aggregate(health.problems), now),
  ];
}

function condition(previous: readonly NodeCondition[], type: string, holds: boolean, reason: string, message: string, now: string): NodeCondition {
  const status = holds ? 'True' : 'False';
  const before = previous.find((one) => one.type === type);
  const lastTransitionTime = before?.status === status && before.lastTransitionTime !== undefined ? before.lastTransitionTime : now;
  return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime };
}

/** Reasons of the node events for what changed, in the order the kubelet looks at them. */
export function conditionEvents(before: readonly NodeCondition[], after: readonly NodeCondition[]): string[] {
  const names: Readonly<Record<string, readonly [string, string]>> = {
    MemoryPressure: ['NodeHasInsufficientMemory', 'NodeHasSufficientMemory'],
    DiskPressure: ['NodeHasDiskPressure', 'NodeHasNoDiskPressure'],
    PIDPressure: ['NodeHasInsufficientPID', 'NodeHasSufficientPID'],
    Ready: ['NodeReady', 'NodeNotReady'],
  };
  return after.flatMap(({ type, status }) => {
    const [yes, no] = names[type] ?? ['', ''];
    const changed = before.find((one) => one.type === type)?.status !== status;
    return changed ? [status === 'True' ? yes : no] : [];
  });
}
