/** Pure: CPU and memory of Kubernetes as limits of cgroups. Source: kubelet 1.37 pkg/kubelet/cm/helpers_linux.go. */
import type { CgroupResources } from '#host/cgroup-types.ts';
import { appContainers, initContainers } from '../kube/pod-facts.ts';
import { milliOf, parseQuantity, wholeOf, type Nanos } from '../kube/quantity.ts';
import type { Pod } from '../kube/types.ts';
import { amountsOf, podAmounts, type Amounts } from './pod-resources.ts';
import { qosClassOf } from './qos.ts';

export const MIN_CPU_SHARES = 2;
const MAX_CPU_SHARES = 262_144;
const SHARES_PER_CPU = 1024;
export const CPU_PERIOD_US = 100_000;
/** The kernel refuses less than a millisecond per period. */
const MIN_CPU_QUOTA_US = 1000;

/** No request is the least weight, not the kernel's default of one CPU. */
export const cpuSharesOf = (cpuMilli: number): number =>
  Math.min(MAX_CPU_SHARES, Math.max(MIN_CPU_SHARES, Math.floor((cpuMilli * SHARES_PER_CPU) / 1000)));

/** Microseconds per period; 0 is no limit. */
export const cpuQuotaUsOf = (cpuMilli: number, periodUs = CPU_PERIOD_US): number =>
  cpuMilli === 0 ? 0 : Math.max(MIN_CPU_QUOTA_US, Math.floor((cpuMilli * periodUs) / 1000));

export interface PodLimitOptions {
  /** false: requests weigh, but limits do not stop anybody (`cpuCFSQuota: false`). */
  readonly cpuCfsQuota: boolean;
  /** Processes per pod; 0 or less: no limit. */
  readonly podPidsLimit: number;
  /** Page sizes this kernel counts, as it spells them (`2MB`); empty without a hugetlb controller. Sizes a pod does not ask for are limited to 0. */
  readonly hugepageSizes: readonly string[];
}

const milli = (amounts: Amounts): number => Number(milliOf(amounts.get('cpu') ?? 0n));
const bytes = (amounts: Amounts, name = 'memory'): number => Number(wholeOf(amounts.get(name) ?? 0n));

/** The CPU request of a pod in thousandths, overhead included. */
export const podCpuRequestMilli = (pod: Pod): number => milli(podAmounts(pod, 'requests'));

/**
 * The limits of a pod's group. Shares always; a quota or a memory limit only when every container (or the pod itself) has one:
 * otherwise the sum of some limits would stop the containers that have none.
 */
export function podCgroupResources(pod: Pod, options: PodLimitOptions): CgroupResources {
  const [requests, limits] = [podAmounts(pod, 'requests'), podAmounts(pod, 'limits')];
  const extras: CgroupResources = {
    ...(options.podPidsLimit > 0 && { pidsLimit: options.podPidsLimit }),
    ...(options.hugepageSizes.length > 0 && { hugepages: hugepagesOf(requests, options.hugepageSizes) }),
  };
  const qosClass = qosClassOf(pod);
  if (qosClass === 'BestEffort') return { cpuShares: MIN_CPU_SHARES, ...extras };
  const cpuLimited = qosClass === 'Guaranteed' || isLimited(pod, 'cpu');
  const memoryLimited = qosClass === 'Guaranteed' || isLimited(pod, 'memory');
  return {
    cpuShares: cpuSharesOf(milli(requests)),
    ...(cpuLimited && { cpuQuotaUs: options.cpuCfsQuota ? cpuQuotaUsOf(milli(limits)) : -1, cpuPeriodUs: CPU_PERIOD_US }),
    ...(memoryLimited && { memoryLimitBytes: bytes(limits) }),
    ...extras,
  };
}

function isLimited(pod: Pod, name: 'cpu' | 'memory'): boolean {
  const has = (amounts: Amounts): boolean => (amounts.get(name) ?? 0n) > 0n;
  return has(amountsOf(pod.spec?.resources, 'limits')) || [...initContainers(pod), ...appContainers(pod)].every((container) => has(amountsOf(container.resources, 'limits')));
}

/** What the kernel calls `2MB` the API calls `hugepages-2Mi`. */
function hugepagesOf(amounts: Amounts, sizes: readonly string[]): Record<string, number> {
  return Object.fromEntries(sizes.map((size) => [size, bytes(amounts, `hugepages-${size.replace(/B$/, 'i')}`)]));
}

/** What pods together may use: the node's capacity without what is reserved for the system (and not without the eviction threshold). */
export interface NodeAllocatable {
  readonly cpuMilli: number;
  readonly memoryBytes: number;
  /** undefined: no limit. */
  readonly pids?: number | undefined;
}

/** Capacity minus `kubeReserved` and `systemReserved` (quantities by resource name), never below zero. */
export function allocatableOf(capacity: NodeAllocatable, ...reserved: readonly Readonly<Record<string, string>>[]): NodeAllocatable {
  const left = (have: number, name: string, unit: (amount: Nanos) => bigint): number =>
    reserved.reduce((rest, list) => Math.max(0, rest - Number(unit(parseQuantity(list[name] ?? '0') ?? 0n))), have);
  return {
    cpuMilli: left(capacity.cpuMilli, 'cpu', milliOf), memoryBytes: left(capacity.memoryBytes, 'memory', wholeOf),
    pids: capacity.pids === undefined ? undefined : left(capacity.pids, 'pid', wholeOf),
  };
}

/** The group of all pods: its weight against the system's groups, and the end of what pods can take from the system. */
export const kubepodsResources = (allocatable: NodeAllocatable): CgroupResources => ({
  cpuShares: cpuSharesOf(allocatable.cpuMilli),
  ...(allocatable.memoryBytes > 0 && { memoryLimitBytes: allocatable.memoryBytes }),
  ...(allocatable.pids !== undefined && { pidsLimit: allocatable.pids }),
});
