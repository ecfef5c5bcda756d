/** What an event is about: references to pods, their containers and the node in the kubelet's exact shapes. */
import type { ObjectReference, Pod } from './types.ts';

export function podReference(pod: Pod): ObjectReference {
  const { namespace, name, uid, resourceVersion } = pod.metadata ?? {};
  return {
    kind: 'Pod',
    apiVersion: 'v1',
    ...(namespace !== undefined && { namespace }),
    ...(name !== undefined && { name }),
    ...(uid !== undefined && { uid }),
    ...(resourceVersion !== undefined && { resourceVersion }),
  };
}

/** With `fieldPath` `spec.containers{name}` (or initContainers, ephemeralContainers), as `kubectl describe` and the tests look for. */
export function containerReference(pod: Pod, containerName: string): ObjectReference {
  const lists = ['containers', 'initContainers', 'ephemeralContainers'] as const;
  const list = lists.find((field) => pod.spec?.[field]?.some((container) => container.name === containerName));
  const reference = podReference(pod);
  return list === undefined ? reference : { ...reference, fieldPath: `spec.${list}{${containerName}}` };
}

/** Source: kubelet 1.36 and later: apiVersion v1 and no uid. */
export const nodeReference = (nodeName: string): ObjectReference => ({ kind: 'Node', apiVersion: 'v1', name: nodeName });
