/** Puts the whole status of a pod together. */
import { activeContainer, activeSandbox } from '../cri/observed.ts';
import { qosClassOf } from '../cgroup/qos.ts';
import { isTerminalPhase, usesHostNetwork } from '../kube/pod-facts.ts';
import type { ContainerStatus, Pod, PodStatus } from '../kube/types.ts';
import { podConditions } from './conditions.ts';
import { containerStatuses, type StatusInputs } from './container-status.ts';
import { phaseOf } from './phase.ts';
import { sandboxVerdict } from './sandbox-verdict.ts';

export interface PodStatusInputs extends StatusInputs {
  /** What was last said of the pod: by us, else what the API server has. */
  readonly previous: PodStatus;
  readonly hostIPs: readonly string[];
  readonly isEnding: boolean;
  readonly nowMs: number;
  /** Set by those who end a pod (deadline, rejection): overrides what the containers say. */
  readonly failed?: { readonly reason: string; readonly message: string };
}

const apiNow = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

export function podStatus(inputs: PodStatusInputs): PodStatus {
  const { pod, observed, previous } = inputs;
  const now = apiNow(inputs.nowMs);
  const spec = pod.spec ?? { containers: [] };
  const init = containerStatuses(inputs, 'init', spec.initContainers ?? [], previous.initContainerStatuses ?? []);
  const app = containerStatuses(inputs, 'app', spec.containers, previous.containerStatuses ?? []);
  const ephemeral = containerStatuses(inputs, 'ephemeral', spec.ephemeralContainers ?? [], previous.ephemeralContainerStatuses ?? []);
  const hasStarted = spec.containers.some(({ name }) => (activeContainer(observed, name)?.startedAtNs ?? 0n) > 0n);
  const phase = nextPhase(inputs, [...init, ...app], hasStarted);
  const kept = phase === previous.phase ? { reason: previous.reason, message: previous.message } : {};
  const why = inputs.failed ?? kept;
  const statuses = [...init, ...app];
  const sandboxProblem = sandboxVerdict(pod, observed).problem;
  const conditions = podConditions({ pod, statuses, phase, sandboxProblem, previous: previous.conditions ?? [], now });
  return {
    phase,
    conditions,
    ...(why.reason !== undefined && { reason: why.reason }),
    ...(why.message !== undefined && { message: why.message }),
    ...addresses(inputs),
    startTime: previous.startTime ?? now,
    qosClass: qosClassOf(pod),
    ...(init.length > 0 && { initContainerStatuses: init }),
    containerStatuses: app,
    ...(ephemeral.length > 0 && { ephemeralContainerStatuses: ephemeral }),
    ...(pod.metadata?.generation !== undefined && { observedGeneration: pod.metadata.generation }),
  };
}

/** A terminal phase never changes back. */
function nextPhase(inputs: PodStatusInputs, statuses: readonly ContainerStatus[], hasStarted: boolean): ReturnType<typeof phaseOf> {
  const known = [inputs.previous.phase, inputs.pod.status?.phase].find(isTerminalPhase);
  if (known === 'Failed' || inputs.failed !== undefined) return 'Failed';
  if (known === 'Succeeded') return 'Succeeded';
  return phaseOf({ pod: inputs.pod, statuses, isEnding: inputs.isEnding, hasStarted });
}

/** Addresses are kept after the sandbox is gone. */
function addresses({ pod, observed, previous, hostIPs }: PodStatusInputs): Partial<PodStatus> {
  const own = activeSandbox(observed)?.ips ?? [];
  const podIPs = usesHostNetwork(pod) ? hostIPs : own.length > 0 ? own : (previous.podIPs ?? []).flatMap(({ ip }) => (ip === undefined ? [] : [ip]));
  return {
    ...(hostIPs[0] !== undefined && { hostIP: hostIPs[0], hostIPs: hostIPs.map((ip) => ({ ip })) }),
    ...(podIPs[0] !== undefined && { podIP: podIPs[0], podIPs: podIPs.map((ip) => ({ ip })) }),
  };
}

/**
 * The last word on a pod that ends: containers that never started, or whose end nobody saw, have ended now.
 * Source: kubelet pkg/kubelet/status/status_manager.go TerminatePod.
 */
export function endedStatus(status: PodStatus, pod: Pod): PodStatus {
  const lost = { exitCode: 137, reason: 'ContainerStatusUnknown', message: 'The container could not be located when the pod was terminated' };
  const initialised = (status.containerStatuses ?? []).some(({ state, lastState }) => state?.running !== undefined || state?.terminated !== undefined || lastState?.terminated !== undefined);
  const end = (container: ContainerStatus): ContainerStatus => {
    if (container.state?.terminated !== undefined) return container;
    // One that waits after a run keeps what is known of that run.
    if (container.lastState?.terminated !== undefined && container.state?.waiting !== undefined) return { ...container, ready: false, started: false, state: { terminated: container.lastState.terminated } };
    return { ...container, ready: false, started: false, state: { terminated: lost } };
  };
  // Init containers of a pod that has initialised are done, those of one that has not were never reached.
  const init = status.initContainerStatuses?.map((container) => (initialised || container.state?.terminated !== undefined || container.state?.running !== undefined ? end(container) : container));
  const app = (status.containerStatuses ?? []).map(end);
  const failed = !isTerminalPhase(status.phase) && app.some(({ state }) => state?.terminated?.exitCode !== 0);
  const phase = isTerminalPhase(status.phase) ? status.phase : failed || app.length === 0 ? 'Failed' : 'Succeeded';
  return {
    ...status,
    ...(phase !== undefined && pod.metadata?.annotations?.['kubernetes.io/config.source'] !== 'file' && { phase }),
    ...(init !== undefined && { initContainerStatuses: init }),
    containerStatuses: app,
  };
}
