/** CRI resources → the limits of the OCI runtime specification (create) and of #host/cgroup (update). */
import type { LinuxContainerResources } from '#cri-api';
import type { CgroupResources } from '#host/cgroup-types.ts';
import { Fault } from '#host/fault.ts';
import type { OciResources } from '../oci/spec-types.ts';

export interface ResourceHost {
  readonly cgroupVersion: 1 | 2;
  /** Controllers that exist here (`memory`, `hugetlb`, …). */
  readonly controllers: ReadonlySet<string>;
  /** v1: memory.memsw files exist; v2: memory.swap.max exists. */
  readonly swapAccounting: boolean;
}

const set = (value: bigint | undefined): number | undefined => (value === undefined || value === 0n ? undefined : toNumber(value));
/** Limits above 2^53 bytes mean "none" in practice and keep their meaning when rounded. */
const toNumber = (value: bigint): number => Number(value);
const compact = <T extends object>(value: T): T | undefined => {
  const kept = Object.entries(value).filter(([, field]) => field !== undefined && field !== '');
  return kept.length === 0 ? undefined : (Object.fromEntries(kept) as T);
};

const pidsMax = 'pids.max';

/** v1 has no unified files; the one that v1 can express in another way is pids.max. Fault 'invalid' for the others. */
function splitUnified(resources: LinuxContainerResources, host: ResourceHost): { unified: Record<string, string>; pidsLimit: number | undefined } {
  if (host.cgroupVersion === 2) return { unified: resources.unified, pidsLimit: undefined };
  const foreign = Object.keys(resources.unified).find((key) => key !== pidsMax);
  if (foreign !== undefined) throw new Fault('invalid', `resources.unified ${foreign}: this host has cgroup v1`);
  const text = resources.unified[pidsMax];
  return { unified: {}, pidsLimit: text === undefined || text === 'max' ? undefined : Number(text) };
}

/** A memory limit without a swap limit allows no swap beyond it (containerd internal/cri/opts/spec_linux_opts.go WithResources). */
function swapLimit(resources: LinuxContainerResources, host: ResourceHost): number | undefined {
  if (!host.swapAccounting) return undefined;
  return set(resources.memorySwapLimitInBytes) ?? set(resources.memoryLimitInBytes);
}

/** For config.json; the device rules come from devices.ts. */
export function ociResources(resources: LinuxContainerResources | undefined, host: ResourceHost): OciResources {
  if (resources === undefined) return {};
  const { unified, pidsLimit } = splitUnified(resources, host);
  const memory = compact({ limit: set(resources.memoryLimitInBytes), swap: swapLimit(resources, host) });
  const cpu = compact({
    shares: set(resources.cpuShares),
    quota: set(resources.cpuQuota),
    period: set(resources.cpuPeriod),
    cpus: resources.cpusetCpus,
    mems: resources.cpusetMems,
  });
  const hugepageLimits = host.controllers.has('hugetlb') ? resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: toNumber(limit) })) : [];
  return {
    ...(memory === undefined ? {} : { memory: memory as NonNullable<OciResources['memory']> }),
    ...(cpu === undefined ? {} : { cpu: cpu as NonNullable<OciResources['cpu']> }),
    ...(pidsLimit === undefined ? {} : { pids: { limit: pidsLimit } }),
    ...(hugepageLimits.length === 0 ? {} : { hugepageLimits }),
    ...(Object.keys(unified).length === 0 ? {} : { unified }),
  };
}

/** For a live container's group (UpdateContainerResources). */
export function cgroupResources(resources: LinuxContainerResources, host: ResourceHost): CgroupResources {
  const { unified, pidsLimit } = splitUnified(resources, host);
  const hugepages = host.controllers.has('hugetlb') ? resources.hugepageLimits : [];
  return {
    cpuShares: set(resources.cpuShares),
    cpuQuotaUs: set(resources.cpuQuota),
    cpuPeriodUs: set(resources.cpuPeriod),
    cpusetCpus: resources.cpusetCpus || undefined,
    cpusetMems: resources.cpusetMems || undefined,
    memoryLimitBytes: set(resources.memoryLimitInBytes),
    memorySwapLimitBytes: swapLimit(resources, host),
    pidsLimit,
    hugepages: hugepages.length === 0 ? undefined : Object.fromEntries(hugepages.map(({ pageSize, limit }) => [pageSize, toNumber(limit)])),
    unified: Object.keys(unified).length === 0 ? undefined : unified,
  };
}

/** What the container has after an update: zero and empty fields of the request leave the old value (CRI api.proto UpdateContainerResources). */
export function mergedResources(old: LinuxContainerResources | undefined, update: LinuxContainerResources): LinuxContainerResources {
  if (old === undefined) return update;
  return {
    cpuPeriod: update.cpuPeriod || old.cpuPeriod,
    cpuQuota: update.cpuQuota || old.cpuQuota,
    cpuShares: update.cpuShares || old.cpuShares,
    memoryLimitInBytes: update.memoryLimitInBytes || old.memoryLimitInBytes,
    oomScoreAdj: update.oomScoreAdj || old.oomScoreAdj,
    cpusetCpus: update.cpusetCpus || old.cpusetCpus,
    cpusetMems: update.cpusetMems || old.cpusetMems,
    hugepageLimits: update.hugepageLimits.length > 0 ? update.hugepageLimits : old.hugepageLimits,
    unified: { ...old.unified, ...update.unified },
    memorySwapLimitInBytes: update.memorySwapLimitInBytes || old.memorySwapLimitInBytes,
  };
}

/** Clamped to -1000…1000 and to what this process may set (`lowest`: its own value unless it holds CAP_SYS_RESOURCE). */
export const oomScoreAdj = (wanted: bigint | undefined, lowest: number): number => Math.min(1000, Math.max(lowest, Number(wanted ?? 0n)));
