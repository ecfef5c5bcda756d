/** Labels and annotations the agent writes on sandboxes and containers and reads back after a restart. Names: kubelet pkg/kubelet/kuberuntime/labels.go. */
import type { Container, Pod } from '../kube/types.ts';

const podNameLabel = 'io.kubernetes.pod.name';
const podNamespaceLabel = 'io.kubernetes.pod.namespace';
export const podUidLabel = 'io.kubernetes.pod.uid';
export const containerNameLabel = 'io.kubernetes.container.name';

const hashAnnotation = 'io.kubernetes.container.hash';
const restartCountAnnotation = 'io.kubernetes.container.restartCount';
const messagePathAnnotation = 'io.kubernetes.container.terminationMessagePath';
const messagePolicyAnnotation = 'io.kubernetes.container.terminationMessagePolicy';
const preStopAnnotation = 'io.kubernetes.container.preStopHandler';
const portsAnnotation = 'io.kubernetes.container.ports';
const deletionGraceAnnotation = 'io.kubernetes.pod.deletionGracePeriod';
const terminationGraceAnnotation = 'io.kubernetes.pod.terminationGracePeriod';

type Strings = Record<string, string>;

export interface PodIdentity {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
}

/** Undefined when the thing was not made for a pod (crictl, critest). */
export function podIdentity(labels: Readonly<Strings>): PodIdentity | undefined {
  const uid = labels[podUidLabel];
  const namespace = labels[podNamespaceLabel];
  const name = labels[podNameLabel];
  return uid === undefined || uid === '' || namespace === undefined || name === undefined ? undefined : { uid, namespace, name };
}

const identityLabels = (pod: Pod): Strings => ({
  [podNameLabel]: pod.metadata?.name ?? '',
  [podNamespaceLabel]: pod.metadata?.namespace ?? '',
  [podUidLabel]: pod.metadata?.uid ?? '',
});

export const sandboxLabels = (pod: Pod): Strings => ({ ...pod.metadata?.labels, ...identityLabels(pod) });
export const containerLabels = (pod: Pod, container: Container): Strings => ({ ...identityLabels(pod), [containerNameLabel]: container.name });

export function containerAnnotations(pod: Pod, container: Container, state: { hash: string; restartCount: number }): Strings {
  const deletionGrace = pod.metadata?.deletionGracePeriodSeconds;
  const terminationGrace = pod.spec?.terminationGracePeriodSeconds;
  return {
    [hashAnnotation]: state.hash,
    [restartCountAnnotation]: String(state.restartCount),
    [messagePathAnnotation]: container.terminationMessagePath ?? '',
    [messagePolicyAnnotation]: container.terminationMessagePolicy ?? 'File',
    ...(deletionGrace !== undefined && { [deletionGraceAnnotation]: String(deletionGrace) }),
    ...(terminationGrace !== undefined && { [terminationGraceAnnotation]: String(terminationGrace) }),
    ...(container.lifecycle?.preStop !== undefined && { [preStopAnnotation]: JSON.stringify(container.lifecycle.preStop) }),
    ...(container.ports !== undefined && container.ports.length > 0 && { [portsAnnotation]: JSON.stringify(container.ports) }),
  };
}

/** What the annotations of a container said when it was made. */
export interface ContainerNotes {
  readonly hash: string | undefined;
  readonly restartCount: number;
  readonly terminationMessagePath: string;
  readonly terminationMessagePolicy: string;
  readonly terminationGraceSeconds: number | undefined;
}

const wholeNumber = (value: string | undefined): number | undefined => (value !== undefined && /^-?\d+$/.test(value) ? Number(value) : undefined);

export function containerNotes(annotations: Readonly<Strings>): ContainerNotes {
  return {
    hash: annotations[hashAnnotation],
    restartCount: wholeNumber(annotations[restartCountAnnotation]) ?? 0,
    terminationMessagePath: annotations[messagePathAnnotation] ?? '',
    terminationMessagePolicy: annotations[messagePolicyAnnotation] ?? 'File',
    terminationGraceSeconds: wholeNumber(annotations[deletionGraceAnnotation]) ?? wholeNumber(annotations[terminationGraceAnnotation]),
  };
}
