/** Pure: the quality-of-service class of a pod. Source: kubelet 1.37 pkg/apis/core/v1/helper/qos. */
import { appContainers, initContainers } from '../kube/pod-facts.ts';
import type { Pod, ResourceRequirements } from '../kube/types.ts';
import { amountsOf, hasPodLevelResources } from './pod-resources.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

/** The class in the pod's status when there is one (it never changes), else computed from the spec. */
export function qosClassOf(pod: Pod): QosClass {
  const known = pod.status?.qosClass;
  return known === 'Guaranteed' || known === 'Burstable' || known === 'BestEffort' ? known : computeQosClass(pod);
}

/** Guaranteed: cpu and memory limits everywhere, equal to the requests. BestEffort: none of either. Else Burstable. */
function computeQosClass(pod: Pod): QosClass {
  if (hasPodLevelResources(pod)) return classOf(pod.spec?.resources);
  return common([...initContainers(pod), ...appContainers(pod)].map((container) => classOf(container.resources)));
}

function classOf(resources: ResourceRequirements | undefined): QosClass {
  const [requests, limits] = [amountsOf(resources, 'requests'), amountsOf(resources, 'limits')];
  return common(['cpu', 'memory'].map((name) => {
    const [request, limit] = [requests.get(name) ?? 0n, limits.get(name) ?? 0n];
    if (request !== limit) return 'Burstable';
    return request === 0n ? 'BestEffort' : 'Guaranteed';
  }));
}

/** Parts of different classes make the whole Burstable. */
function common(classes: readonly QosClass[]): QosClass {
  const [first = 'BestEffort'] = classes;
  return classes.every((one) => one === first) ? first : 'Burstable';
}
