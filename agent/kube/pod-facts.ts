/** Small questions about a pod that every part of the agent asks. */
import type { Container, EphemeralContainer, Pod } from './types.ts';

export const configSourceAnnotation = 'kubernetes.io/config.source';
export const configHashAnnotation = 'kubernetes.io/config.hash';
export const configMirrorAnnotation = 'kubernetes.io/config.mirror';

export const podUid = (pod: Pod): string => pod.metadata?.uid ?? '';
export const podNamespace = (pod: Pod): string => pod.metadata?.namespace ?? 'default';
export const podName = (pod: Pod): string => pod.metadata?.name ?? '';
/** `namespace/name`, for logs and messages. */
export const podKey = (pod: Pod): string => `${podNamespace(pod)}/${podName(pod)}`;
/** `name_namespace(uid)`, as the kubelet writes pods into messages. */
export const podText = (pod: Pod): string => `${podName(pod)}_${podNamespace(pod)}(${podUid(pod)})`;

/** A pod from a file of this node, not from the API server. */
export function isStaticPod(pod: Pod): boolean {
  const source = pod.metadata?.annotations?.[configSourceAnnotation];
  return source !== undefined && source !== 'api';
}
/** The API server's reflection of a static pod. */
export const isMirrorPod = (pod: Pod): boolean => pod.metadata?.annotations?.[configMirrorAnnotation] !== undefined;

export const usesHostNetwork = (pod: Pod): boolean => pod.spec?.hostNetwork === true;

export const initContainers = (pod: Pod): readonly Container[] => pod.spec?.initContainers ?? [];
export const appContainers = (pod: Pod): readonly Container[] => pod.spec?.containers ?? [];
/** Ephemeral containers with the fields they share with the others. */
export const ephemeralContainers = (pod: Pod): readonly EphemeralContainer[] => pod.spec?.ephemeralContainers ?? [];
/** An init container that keeps running beside the others (GA 1.33). */
export const isSidecar = (container: Container): boolean => container.restartPolicy === 'Always';

export const findContainer = (pod: Pod, name: string): Container | undefined =>
  [...appContainers(pod), ...initContainers(pod), ...ephemeralContainers(pod)].find((container) => container.name === name);

export const isTerminalPhase = (phase: string | undefined): boolean => phase === 'Succeeded' || phase === 'Failed';
