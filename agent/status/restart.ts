/** Whether a container that is not running is to run again. Source: kubelet pkg/kubelet/container/helpers.go, KEP-5307 for the rules. */
import { newestContainer, type ObservedPod } from '../cri/observed.ts';
import type { Container, Pod } from '../kube/types.ts';

/** By its own rules, its own policy, its pod's policy, in this order. */
export function restartsAfter(pod: Pod, container: Container, exitCode: number): boolean {
  for (const rule of container.restartPolicyRules ?? []) {
    const values = rule.exitCodes?.values ?? [];
    const matches = rule.exitCodes?.operator === 'NotIn' ? !values.includes(exitCode) : values.includes(exitCode);
    if (rule.action === 'Restart' && rule.exitCodes !== undefined && matches) return true;
  }
  const policy = container.restartPolicy ?? pod.spec?.restartPolicy ?? 'Always';
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** True also for one that never ran. */
export function shouldStart(pod: Pod, container: Container, observed: ObservedPod): boolean {
  if (pod.metadata?.deletionTimestamp !== undefined) return false;
  const newest = newestContainer(observed, container.name);
  if (newest === undefined || newest.state === 'unknown' || newest.state === 'created') return true;
  return newest.state === 'exited' && restartsAfter(pod, container, newest.exitCode);
}
