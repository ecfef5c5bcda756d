/** Pure: whom the kernel kills first when the node's memory is at its end. Source: kubelet 1.37 pkg/kubelet/qos/policy.go. */
import { appContainers, initContainers, isMirrorPod, isSidecar, isStaticPod } from '../kube/pod-facts.ts';
import { wholeOf } from '../kube/quantity.ts';
import type { Container, Pod } from '../kube/types.ts';
import { amountsOf, hasPodLevelResources } from './pod-resources.ts';
import { qosClassOf } from './qos.ts';

const GUARANTEED = -997;
const BEST_EFFORT = 1000;
/** Lowest and highest value of a Burstable container: behind every Guaranteed one, before every BestEffort one. */
const BURSTABLE = { least: 1000 + GUARANTEED, most: BEST_EFFORT - 1 };
/** From this priority on a pod is critical (scheduling.SystemCriticalPriority). */
const SYSTEM_CRITICAL_PRIORITY = 2_000_000_000;

const isNodeCritical = (pod: Pod): boolean =>
  pod.spec?.priorityClassName === 'system-node-critical' &&
  (isStaticPod(pod) || isMirrorPod(pod) || (pod.spec.priority ?? 0) >= SYSTEM_CRITICAL_PRIORITY);

const memoryRequest = (container: Container): number => Number(wholeOf(amountsOf(container.resources, 'requests').get('memory') ?? 0n));

/** `oom_score_adj` of a container: the more memory of the node it requests, the later it goes. */
export function oomScoreAdjust(pod: Pod, container: Container, memoryCapacityBytes: number): number {
  if (isNodeCritical(pod)) return GUARANTEED;
  const qosClass = qosClassOf(pod);
  if (qosClass === 'Guaranteed') return GUARANTEED;
  if (qosClass === 'BestEffort') return BEST_EFFORT;
  const share = shareOfPodRequest(pod);
  const scoreFor = (requestBytes: number): number => 1000 - Math.trunc((1000 * (requestBytes + share)) / memoryCapacityBytes);
  let score = scoreFor(memoryRequest(container));
  // A sidecar must not go before the containers it serves.
  if (isSidecar(container)) score = Math.min(score, scoreFor(Math.min(...appContainers(pod).map(memoryRequest))));
  return Math.min(BURSTABLE.most, Math.max(BURSTABLE.least, score));
}

/** What a pod-level memory request leaves over after the containers' own, in equal parts. */
function shareOfPodRequest(pod: Pod): number {
  if (!hasPodLevelResources(pod)) return 0;
  const whole = Number(wholeOf(amountsOf(pod.spec?.resources, 'requests').get('memory') ?? 0n));
  const containers = [...initContainers(pod).filter(isSidecar), ...appContainers(pod)];
  const left = whole - containers.reduce((sum, container) => sum + memoryRequest(container), 0);
  return left <= 0 || containers.length === 0 ? 0 : Math.trunc(left / containers.length);
}
