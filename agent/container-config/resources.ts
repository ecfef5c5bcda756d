/** A container's requests and limits → CRI resources. Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_container_linux.go. */
import { LinuxContainerResources } from '#cri-api';
import { CPU_PERIOD_US, cpuQuotaUsOf, cpuSharesOf } from '../cgroup/pod-limits.ts';
import { milliFrom, wholeFrom } from '../kube/quantity.ts';
import type { Container, Pod } from '../kube/types.ts';

export interface ResourceFacts {
  readonly cpuQuota: boolean;
  readonly cgroupV2: boolean;
  readonly oomScoreAdj: number;
}

const hugepagePrefix = 'hugepages-';
const hugepageUnits: readonly [bigint, string][] = [[1n << 30n, 'GB'], [1n << 20n, 'MB'], [1n << 10n, 'KB']];

/** The kernel's spelling of a page size: `2MB` for `2Mi`. */
function pageSize(resource: string): string | undefined {
  const bytes = wholeFrom(resource.slice(hugepagePrefix.length));
  const unit = hugepageUnits.find(([size]) => bytes !== undefined && bytes >= size && bytes % size === 0n);
  return bytes === undefined || unit === undefined ? undefined : `${bytes / unit[0]}${unit[1]}`;
}

function hugepageLimits(limits: Readonly<Record<string, string>>): { pageSize: string; limit: bigint }[] {
  return Object.entries(limits).flatMap(([name, text]) => {
    const size = name.startsWith(hugepagePrefix) ? pageSize(name) : undefined;
    const limit = wholeFrom(text);
    return size === undefined || limit === undefined ? [] : [{ pageSize: size, limit }];
  });
}

/** The limit of the container, else that of the pod (pod-level resources). */
const limitOf = (pod: Pod, container: Container, name: string): string | undefined => container.resources?.limits?.[name] ?? pod.spec?.resources?.limits?.[name];

export function containerResources(pod: Pod, container: Container, facts: ResourceFacts): LinuxContainerResources {
  const cpuLimit = Number(milliFrom(limitOf(pod, container, 'cpu')) ?? 0n);
  const cpuRequest = Number(milliFrom(container.resources?.requests?.['cpu']) ?? cpuLimit);
  return LinuxContainerResources.fromPartial({
    cpuShares: BigInt(cpuSharesOf(cpuRequest)),
    ...(facts.cpuQuota && { cpuPeriod: BigInt(CPU_PERIOD_US), cpuQuota: BigInt(cpuQuotaUsOf(cpuLimit)) }),
    memoryLimitInBytes: wholeFrom(limitOf(pod, container, 'memory')) ?? 0n,
    oomScoreAdj: BigInt(facts.oomScoreAdj),
    hugepageLimits: hugepageLimits(container.resources?.limits ?? {}),
    // One process killed for lack of memory takes its container along, and nothing of an earlier memory.high stays.
    unified: facts.cgroupV2 ? { 'memory.oom.group': '1', 'memory.high': 'max' } : {},
  });
}
