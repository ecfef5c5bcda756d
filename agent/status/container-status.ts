/** Observed containers + the last status → container statuses. Source: kubelet 1.37 pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses. */
import { newestContainer, type ObservedContainer, type ObservedPod } from '../cri/observed.ts';
import { isSidecar } from '../kube/pod-facts.ts';
import type { Container, ContainerState, ContainerStatus, Pod } from '../kube/types.ts';
import { shouldStart } from './restart.ts';

export interface WaitingNote {
  readonly reason: string;
  readonly message: string;
}

/** Results of probes by container id; undefined = no such probe, or no result yet. */
export interface ProbeResults {
  started(containerId: string): boolean | undefined;
  ready(containerId: string): boolean | undefined;
}

export interface StatusInputs {
  readonly pod: Pod;
  readonly observed: ObservedPod;
  /** Why the last start of a container failed, by its name. */
  readonly notes: ReadonlyMap<string, WaitingNote>;
  /** `containerd`, `nodelet`: scheme of container ids. */
  readonly runtimeName: string;
  readonly probes: ProbeResults;
}

type Kind = 'app' | 'init' | 'ephemeral';

/** Seconds, as metav1.Time is written; undefined for "never". */
const apiTime = (ns: bigint): string | undefined => (ns <= 0n ? undefined : `${new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19)}Z`);

const lostMessage = 'The container could not be located when the pod was terminated';
const lostRunningMessage = 'The container could not be located when the pod was deleted.  The container used to be Running';
const inferredMessage = 'Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally';

/** In the order of the spec. */
export function containerStatuses(inputs: StatusInputs, kind: Kind, containers: readonly Container[], previous: readonly ContainerStatus[]): ContainerStatus[] {
  return containers.map((container) => {
    const old = previous.find(({ name }) => name === container.name);
    const instances = inputs.observed.containers.filter(({ name }) => name === container.name);
    const status = instances[0] === undefined ? missing(inputs, kind, container, old) : present(inputs, container, instances, old);
    return withReadiness(inputs, kind, container, withNote(inputs, kind, container, status));
  });
}

function waitingAtFirst({ pod }: StatusInputs, kind: Kind): ContainerState {
  const initialising = kind === 'app' && (pod.spec?.initContainers?.length ?? 0) > 0;
  return { waiting: { reason: initialising ? 'PodInitializing' : 'ContainerCreating' } };
}

const base = (container: Container, old: ContainerStatus | undefined): ContainerStatus => ({
  name: container.name,
  image: container.image ?? '',
  imageID: '',
  ready: false,
  restartCount: old?.restartCount ?? 0,
  state: {},
  lastState: old?.lastState ?? {},
  ...volumeMountStatuses(container),
});

function volumeMountStatuses(container: Container): Pick<ContainerStatus, 'volumeMounts'> {
  const mounts = container.volumeMounts ?? [];
  if (mounts.length === 0) return {};
  return {
    volumeMounts: mounts.map(({ name, mountPath, readOnly, recursiveReadOnly }) => ({
      name,
      mountPath,
      ...(readOnly === true && { readOnly, recursiveReadOnly: recursiveReadOnly === 'Enabled' ? 'Enabled' : 'Disabled' }),
    })),
  };
}

/** The runtime knows no instance: never started, or its record was removed. */
function missing(inputs: StatusInputs, kind: Kind, container: Container, old: ContainerStatus | undefined): ContainerStatus {
  if (old?.state?.terminated !== undefined) return { ...old };
  const status = { ...base(container, old), state: waitingAtFirst(inputs, kind) };
  const initialised = (inputs.pod.spec?.containers ?? []).some(({ name }) => newestContainer(inputs.observed, name) !== undefined);
  if (kind === 'init' && !isSidecar(container) && initialised) {
    return { ...status, state: { terminated: { exitCode: 0, reason: 'Completed', message: inferredMessage } } };
  }
  if (old?.state?.running === undefined || status.lastState?.terminated !== undefined) return status;
  return {
    ...status,
    lastState: { terminated: { exitCode: 137, reason: 'ContainerStatusUnknown', message: lostRunningMessage } },
    restartCount: status.restartCount + (inputs.pod.metadata?.deletionTimestamp === undefined ? 1 : 0),
  };
}

/** Newest instance first; the one before it is the last state. */
function present(inputs: StatusInputs, container: Container, instances: readonly ObservedContainer[], old: ContainerStatus | undefined): ContainerStatus {
  const [newest, before] = instances;
  if (newest === undefined) return base(container, old);
  const id = `${inputs.runtimeName}://${newest.id}`;
  const lostCount = newest.state === 'unknown' && old?.state?.running !== undefined ? (old.restartCount ?? 0) + 1 : undefined;
  return {
    ...base(container, old),
    restartCount: lostCount ?? Math.max(newest.notes.restartCount, old?.restartCount ?? 0),
    image: newest.image === '' ? (container.image ?? '') : newest.image,
    imageID: newest.imageRef,
    containerID: id,
    state: stateOf(newest, id, old),
    lastState: before === undefined ? lastStateWithout(id, old) : stateOf(before, `${inputs.runtimeName}://${before.id}`, undefined),
    ...(container.resources !== undefined && { resources: container.resources }),
    ...(container.resources?.requests !== undefined && { allocatedResources: container.resources.requests }),
    ...(newest.user !== undefined && {
      user: { linux: { uid: newest.user.uid, gid: newest.user.gid, supplementalGroups: [...newest.user.supplementalGroups] } },
    }),
  };
}

/** The record of the instance before is gone: what was said of it still holds. */
function lastStateWithout(id: string, old: ContainerStatus | undefined): ContainerState {
  if (old === undefined) return {};
  if (old.containerID !== id && old.state?.terminated !== undefined) return { terminated: old.state.terminated };
  return old.lastState ?? {};
}

function stateOf(container: ObservedContainer, id: string, old: ContainerStatus | undefined): ContainerState {
  const startedAt = apiTime(container.startedAtNs);
  const finishedAt = apiTime(container.finishedAtNs);
  switch (container.state) {
    case 'running':
      return { running: startedAt === undefined ? {} : { startedAt } };
    case 'exited':
      return {
        terminated: {
          exitCode: container.exitCode,
          reason: container.reason,
          ...(container.message !== '' && { message: container.message }),
          ...(startedAt !== undefined && { startedAt }),
          ...(finishedAt !== undefined && { finishedAt }),
          containerID: id,
        },
      };
    case 'unknown':
      return old?.state?.running === undefined ? { waiting: {} } : { terminated: { exitCode: 137, reason: 'ContainerStatusUnknown', message: lostMessage } };
    case 'created':
      return { waiting: {} };
    default:
      return container.state satisfies never;
  }
}

/** A container that will be started again, and why it is not yet. */
function withNote(inputs: StatusInputs, kind: Kind, container: Container, status: ContainerStatus): ContainerStatus {
  const note = inputs.notes.get(container.name);
  if (note === undefined || status.state?.running !== undefined) return status;
  if (kind === 'init' && status.state?.terminated?.exitCode === 0 && !isSidecar(container)) return status;
  if (!shouldStart(inputs.pod, container, inputs.observed)) return status;
  return {
    ...status,
    ...(status.state?.terminated !== undefined && { lastState: { terminated: status.state.terminated } }),
    state: { waiting: { reason: note.reason, message: note.message } },
  };
}

function withReadiness(inputs: StatusInputs, kind: Kind, container: Container, status: ContainerStatus): ContainerStatus {
  const id = status.containerID?.split('://')[1] ?? '';
  const running = status.state?.running !== undefined;
  const started = running && (container.startupProbe === undefined || inputs.probes.started(id) === true);
  if (kind === 'ephemeral') return { ...status, ready: false };
  if (kind === 'init' && !isSidecar(container)) return { ...status, started, ready: status.state?.terminated?.exitCode === 0 };
  const ready = started && (container.readinessProbe === undefined || inputs.probes.ready(id) === true);
  return { ...status, started, ready };
}
