/** May a pod run on this node at all? The reason when not, as the kubelet gives it. Pure. */
import { podAmounts } from '../cgroup/pod-resources.ts';
import { isStaticPod, podUid } from '../kube/pod-facts.ts';
import { milliOf, parseQuantity, wholeOf } from '../kube/quantity.ts';
import type { Node, Pod } from '../kube/types.ts';

export interface AdmissionFacts {
  /** Quantities by resource name, `pods` among them; empty: not known, everything fits. */
  readonly allocatable: Readonly<Record<string, string>>;
  /** Pods that have or may get running containers; the pod itself does not count. */
  readonly others: readonly Pod[];
  /** Undefined on a standalone node. */
  readonly node: Node | undefined;
}

export interface Refusal {
  readonly reason: string;
  readonly message: string;
}

/** Source: kubelet pkg/kubelet/sysctl/safe_sysctls.go. */
const safeSysctls: ReadonlySet<string> = new Set([
  'kernel.shm_rmid_forced', 'net.ipv4.ip_local_port_range', 'net.ipv4.tcp_syncookies', 'net.ipv4.ping_group_range', 'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ip_local_reserved_ports', 'net.ipv4.tcp_keepalive_time', 'net.ipv4.tcp_fin_timeout', 'net.ipv4.tcp_keepalive_intvl', 'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem',
]);

export function admissionRefusal(pod: Pod, facts: AdmissionFacts): Refusal | undefined {
  return osRefusal(pod) ?? sysctlRefusal(pod) ?? selectorRefusal(pod, facts.node) ?? resourceRefusal(pod, facts);
}

function osRefusal(pod: Pod): Refusal | undefined {
  const os = pod.spec?.os?.name;
  return os === undefined || os === 'linux' ? undefined : { reason: 'PodOSNotSupported', message: "Failed to admit pod as the OS field doesn't match node OS" };
}

function sysctlRefusal(pod: Pod): Refusal | undefined {
  for (const { name } of pod.spec?.securityContext?.sysctls ?? []) {
    const dotted = name.replaceAll('/', '.');
    if (!safeSysctls.has(dotted)) return { reason: 'SysctlForbidden', message: `forbidden sysctl: ${JSON.stringify(name)} not allowlisted` };
    const shared = dotted.startsWith('net.') ? pod.spec?.hostNetwork : pod.spec?.hostIPC;
    if (shared === true) return { reason: 'SysctlForbidden', message: `forbidden sysctl: ${JSON.stringify(name)} not allowed with host ${dotted.startsWith('net.') ? 'net' : 'ipc'} enabled` };
  }
  return undefined;
}

function selectorRefusal(pod: Pod, node: Node | undefined): Refusal | undefined {
  const labels = node?.metadata?.labels;
  if (labels === undefined || isStaticPod(pod)) return undefined;
  const differs = Object.entries(pod.spec?.nodeSelector ?? {}).some(([key, value]) => labels[key] !== value);
  return differs ? { reason: 'NodeAffinity', message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector" } : undefined;
}

function resourceRefusal(pod: Pod, { allocatable, others }: AdmissionFacts): Refusal | undefined {
  const rest = others.filter((other) => podUid(other) !== podUid(pod));
  const maxPods = allocatable['pods'] === undefined ? undefined : Number(allocatable['pods']);
  if (maxPods !== undefined && rest.length + 1 > maxPods) return outOf('pods', 1n, BigInt(rest.length), BigInt(maxPods));
  const wanted = podAmounts(pod, 'requests');
  for (const [name, amount] of wanted) {
    const capacity = parseQuantity(allocatable[name] ?? '');
    if (amount === 0n || capacity === undefined) continue;
    const used = rest.reduce((sum, other) => sum + (podAmounts(other, 'requests').get(name) ?? 0n), 0n);
    const unit = name === 'cpu' ? milliOf : wholeOf;
    if (used + amount > capacity) return outOf(name, unit(amount), unit(used), unit(capacity));
  }
  return undefined;
}

const outOf = (name: string, requested: bigint, used: bigint, capacity: bigint): Refusal => ({
  reason: `OutOf${name}`,
  message: `Node didn't have enough resource: ${name}, requested: ${requested}, used: ${used}, capacity: ${capacity}`,
});
