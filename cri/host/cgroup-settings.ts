/** Pure: the files to write for wanted resources, on cgroup v1 and v2. */
import { weightOfShares } from './cgroup-parse.ts';
import type { CgroupResources } from './cgroup-types.ts';
import { Fault } from './fault.ts';

export interface CgroupSetting {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
}

const isSet = (value: number | undefined): value is number => value !== undefined && value !== 0;

/** cgroup v1. A period without a quota changes nothing and is left out; 0 means "leave as it is", as in the CRI. */
export function settingsV1(wanted: CgroupResources): CgroupSetting[] {
  const settings: CgroupSetting[] = [];
  const set = (controller: string, file: string, value: number | string): unknown => settings.push({ controller, file, value: String(value) });
  if (isSet(wanted.cpuShares)) set('cpu', 'cpu.shares', wanted.cpuShares);
  if (isSet(wanted.cpuQuotaUs)) {
    if (isSet(wanted.cpuPeriodUs)) set('cpu', 'cpu.cfs_period_us', wanted.cpuPeriodUs);
    set('cpu', 'cpu.cfs_quota_us', Math.max(wanted.cpuQuotaUs, -1));
  }
  if (wanted.cpusetCpus) set('cpuset', 'cpuset.cpus', wanted.cpusetCpus);
  if (wanted.cpusetMems) set('cpuset', 'cpuset.mems', wanted.cpusetMems);
  if (isSet(wanted.memoryLimitBytes)) set('memory', 'memory.limit_in_bytes', Math.max(wanted.memoryLimitBytes, -1));
  if (isSet(wanted.memorySwapLimitBytes)) set('memory', 'memory.memsw.limit_in_bytes', Math.max(wanted.memorySwapLimitBytes, -1));
  if (isSet(wanted.pidsLimit)) set('pids', 'pids.max', wanted.pidsLimit < 0 ? 'max' : wanted.pidsLimit);
  for (const [size, bytes] of Object.entries(wanted.hugepages ?? {})) set('hugetlb', `hugetlb.${size}.limit_in_bytes`, bytes);
  if (Object.keys(wanted.unified ?? {}).length > 0) throw new Fault('invalid', 'cgroup: unified settings need cgroup v2');
  return settings;
}

/** cgroup v2; `unified` comes last and therefore wins. */
export function settingsV2(wanted: CgroupResources): CgroupSetting[] {
  const settings: CgroupSetting[] = [];
  const set = (controller: string, file: string, value: number | string): unknown => settings.push({ controller, file, value: String(value) });
  const maxOr = (value: number): number | string => (value < 0 ? 'max' : value);
  if (isSet(wanted.cpuShares)) set('cpu', 'cpu.weight', weightOfShares(wanted.cpuShares));
  if (isSet(wanted.cpuQuotaUs)) set('cpu', 'cpu.max', [maxOr(wanted.cpuQuotaUs), ...(isSet(wanted.cpuPeriodUs) ? [wanted.cpuPeriodUs] : [])].join(' '));
  if (wanted.cpusetCpus) set('cpuset', 'cpuset.cpus', wanted.cpusetCpus);
  if (wanted.cpusetMems) set('cpuset', 'cpuset.mems', wanted.cpusetMems);
  if (isSet(wanted.memorySwapLimitBytes)) set('memory', 'memory.swap.max', maxOr(swapOnly(wanted)));
  if (isSet(wanted.memoryLimitBytes)) set('memory', 'memory.max', maxOr(wanted.memoryLimitBytes));
  if (isSet(wanted.pidsLimit)) set('pids', 'pids.max', maxOr(wanted.pidsLimit));
  for (const [size, bytes] of Object.entries(wanted.hugepages ?? {})) set('hugetlb', `hugetlb.${size}.max`, bytes);
  for (const [file, value] of Object.entries(wanted.unified ?? {})) {
    const controller = /^([a-z]+)(\.[A-Za-z0-9_]+)+$/.exec(file)?.[1];
    if (controller === undefined) throw new Fault('invalid', `cgroup: unified key ${JSON.stringify(file)} is no name of a cgroup file`);
    set(controller, file, value);
  }
  return settings;
}

/** v2 limits swap alone, the CRI and v1 memory and swap together. */
function swapOnly({ memoryLimitBytes = 0, memorySwapLimitBytes = 0 }: CgroupResources): number {
  if (memorySwapLimitBytes < 0) return -1;
  if (memoryLimitBytes <= 0) throw new Fault('invalid', 'cgroup: a swap limit needs a memory limit');
  if (memorySwapLimitBytes < memoryLimitBytes) throw new Fault('invalid', 'cgroup: the memory and swap limit is below the memory limit');
  return memorySwapLimitBytes - memoryLimitBytes;
}
