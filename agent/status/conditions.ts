/** Conditions of a pod that a node owns, with transition times and observedGeneration. Source: kubelet 1.37 pkg/kubelet/status/generate.go. */
import { isSidecar } from '../kube/pod-facts.ts';
import type { ContainerStatus, Pod, PodCondition } from '../kube/types.ts';
import type { Phase } from './phase.ts';

export interface ConditionInputs {
  readonly pod: Pod;
  readonly statuses: readonly ContainerStatus[];
  readonly phase: Phase;
  /** Why there is no usable sandbox; undefined when there is one. */
  readonly sandboxProblem: string | undefined;
  readonly previous: readonly PodCondition[];
  readonly now: string;
}

type Verdict = { status: 'True' | 'False'; reason?: string; message?: string };

const owned = ['PodReadyToStartContainers', 'Initialized', 'Ready', 'ContainersReady', 'PodScheduled'] as const;
type Owned = (typeof owned)[number];

const isOwnedCondition = (type: string): boolean => owned.some((name) => name === type) || type === 'DisruptionTarget';

/** Go's way to print a list of names. */
const list = (names: readonly string[]): string => `[${names.join(' ')}]`;

/** Conditions of others first, then ours. */
export function podConditions(inputs: ConditionInputs): PodCondition[] {
  const foreign = (inputs.pod.status?.conditions ?? []).filter(({ type }) => !isOwnedCondition(type));
  const disruption = inputs.previous.filter(({ type }) => type === 'DisruptionTarget');
  const containersReady = containersReadyVerdict(inputs);
  const verdicts: Record<Owned, Verdict> = {
    PodReadyToStartContainers: inputs.sandboxProblem === undefined ? { status: 'True' } : { status: 'False', reason: 'PodSandboxNotReady', message: inputs.sandboxProblem },
    Initialized: initializedVerdict(inputs),
    Ready: readyVerdict(inputs, containersReady, foreign),
    ContainersReady: containersReady,
    PodScheduled: { status: 'True' },
  };
  return [...foreign, ...disruption, ...owned.map((type) => condition(inputs, type, verdicts[type]))];
}

function condition({ pod, previous, now }: ConditionInputs, type: Owned, verdict: Verdict): PodCondition {
  const before = previous.find((found) => found.type === type);
  const generation = pod.metadata?.generation;
  const lastTransitionTime = before?.status === verdict.status ? (before.lastTransitionTime ?? now) : now;
  return { type, lastTransitionTime, ...verdict, ...(generation !== undefined && { observedGeneration: generation }) };
}

const statusOf = (statuses: readonly ContainerStatus[], name: string): ContainerStatus | undefined => statuses.find((status) => status.name === name);

function containersReadyVerdict({ pod, statuses, phase }: ConditionInputs): Verdict {
  const names = [...(pod.spec?.initContainers ?? []).filter(isSidecar), ...(pod.spec?.containers ?? [])].map(({ name }) => name);
  const unknown = names.filter((name) => statusOf(statuses, name) === undefined);
  const unready = names.filter((name) => statusOf(statuses, name)?.ready === false);
  if (phase === 'Succeeded' && unknown.length === 0) return { status: 'False', reason: 'PodCompleted' };
  if (phase === 'Failed') return { status: 'False', reason: 'PodFailed' };
  const messages = [
    ...(unknown.length === 0 ? [] : [`containers with unknown status: ${list(unknown)}`]),
    ...(unready.length === 0 ? [] : [`containers with unready status: ${list(unready)}`]),
  ];
  return messages.length === 0 ? { status: 'True' } : { status: 'False', reason: 'ContainersNotReady', message: messages.join(', ') };
}

function readyVerdict({ pod }: ConditionInputs, containersReady: Verdict, foreign: readonly PodCondition[]): Verdict {
  if (containersReady.status !== 'True') return containersReady;
  const messages = (pod.spec?.readinessGates ?? []).flatMap(({ conditionType }) => {
    const found = foreign.find(({ type }) => type === conditionType);
    if (found === undefined) return [`corresponding condition of pod readiness gate ${JSON.stringify(conditionType)} does not exist.`];
    return found.status === 'True' ? [] : [`the status of pod readiness gate ${JSON.stringify(conditionType)} is not "True", but ${found.status}`];
  });
  return messages.length === 0 ? { status: 'True' } : { status: 'False', reason: 'ReadinessGatesNotReady', message: messages.join(', ') };
}

function initializedVerdict({ pod, statuses, phase }: ConditionInputs): Verdict {
  const inits = pod.spec?.initContainers ?? [];
  const unknown = inits.filter(({ name }) => statusOf(statuses, name) === undefined).map(({ name }) => name);
  const incomplete = inits
    .filter((container) => {
      const status = statusOf(statuses, container.name);
      return status !== undefined && !(isSidecar(container) ? status.started === true : status.ready);
    })
    .map(({ name }) => name);
  if (phase === 'Succeeded' && unknown.length === 0) return { status: 'True', reason: 'PodCompleted' };
  // A container of the pod that has run proves that initialising was done, whatever restarts now.
  const anyStarted = (pod.spec?.containers ?? []).some(({ name }) => {
    const status = statusOf(statuses, name);
    return status?.state?.running !== undefined || status?.state?.terminated !== undefined || status?.lastState?.terminated !== undefined;
  });
  if (anyStarted) return { status: 'True' };
  const messages = [
    ...(unknown.length === 0 ? [] : [`containers with unknown status: ${list(unknown)}`]),
    ...(incomplete.length === 0 ? [] : [`containers with incomplete status: ${list(incomplete)}`]),
  ];
  return messages.length === 0 ? { status: 'True' } : { status: 'False', reason: 'ContainersNotInitialized', message: messages.join(', ') };
}
