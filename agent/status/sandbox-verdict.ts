/** Whether the pod's sandbox can be used as it is. Source: kubelet 1.37 pkg/kubelet/kuberuntime/util. */
import type { ObservedPod } from '../cri/observed.ts';
import { usesHostNetwork } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';

export interface SandboxVerdict {
  /** Why a new one is needed; undefined = the newest is fine. */
  readonly problem: string | undefined;
  /** The newest, whatever its state. */
  readonly id: string | undefined;
  /** For the next one when there is a problem, else its own. */
  readonly attempt: number;
}

export function sandboxVerdict(pod: Pod, observed: ObservedPod): SandboxVerdict {
  const [newest] = observed.sandboxes;
  if (newest === undefined) return { problem: 'No pod sandbox found', id: undefined, attempt: 0 };
  const replace = (problem: string): SandboxVerdict => ({ problem, id: newest.id, attempt: newest.attempt + 1 });
  if (observed.sandboxes.filter(({ ready }) => ready).length > 1) return replace('Multiple sandboxes exist');
  if (!newest.ready) return replace('Pod sandbox is not ready');
  if (newest.hostNetwork !== usesHostNetwork(pod)) return replace('Pod sandbox has a different network namespace mode');
  if (!newest.hostNetwork && newest.ips.length === 0) return replace('Pod sandbox has no IP address');
  return { problem: undefined, id: newest.id, attempt: newest.attempt };
}
