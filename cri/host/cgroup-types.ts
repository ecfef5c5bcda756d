/** Control groups as the rest of nodelet sees them: the same words for cgroup v1, hybrid and v2. Made by `openCgroups()` in cgroup.ts. */
import type { Ctx } from './ctx.ts';

/**
 * What a group may use. Absent means "leave as it is". Values are those of the CRI and of the OCI runtime specification;
 * a limit of -1 means none.
 */
export interface CgroupResources {
  /** cgroup v1 shares, 2…262144; on v2 they become `cpu.weight` (see `weightOfShares`). 0 is "leave as it is", as in the CRI. */
  readonly cpuShares?: number | undefined;
  readonly cpuQuotaUs?: number | undefined;
  readonly cpuPeriodUs?: number | undefined;
  readonly cpusetCpus?: string | undefined;
  readonly cpusetMems?: string | undefined;
  readonly memoryLimitBytes?: number | undefined;
  /** Memory plus swap, as in the CRI; v2 gets the difference to `memoryLimitBytes`. */
  readonly memorySwapLimitBytes?: number | undefined;
  readonly pidsLimit?: number | undefined;
  /** Page size as the kernel spells it (`2MB`, `1GB`) → bytes. */
  readonly hugepages?: Readonly<Record<string, number>> | undefined;
  /** Files of cgroup v2, verbatim (`memory.high`: `1000000`); a Fault on v1. */
  readonly unified?: Readonly<Record<string, string>> | undefined;
}

export interface CpuTimes {
  readonly userNs: bigint;
  readonly systemNs: bigint;
  readonly periods: number;
  readonly throttledPeriods: number;
  readonly throttledNs: bigint;
}

export interface MemoryUsage {
  readonly usageBytes: number;
  /** Usage without inactive file cache: what the kubelet evicts by. */
  readonly workingSetBytes: number;
  /** Anonymous memory. */
  readonly rssBytes: number;
  readonly cacheBytes: number;
  readonly mappedFileBytes: number;
  readonly activeFileBytes: number;
  readonly inactiveFileBytes: number;
  readonly pageFaults: number;
  readonly majorPageFaults: number;
  /** Without those of the groups below; v2 has only the sum. */
  readonly ownPageFaults: number;
  readonly ownMajorPageFaults: number;
  /** undefined: no limit. */
  readonly limitBytes: number | undefined;
  /** undefined: the kernel does not account swap. */
  readonly swap: SwapUsage | undefined;
}

/** What is in files of its own; undefined where the kernel does not count it. */
export interface MemoryHistory {
  readonly peakBytes: number | undefined;
  /** How often the limit was reached. */
  readonly limitHits: number | undefined;
  readonly kernelBytes: number | undefined;
}

export interface SwapUsage {
  readonly usageBytes: number;
  /** undefined: no limit. */
  readonly limitBytes: number | undefined;
}

export interface PidsUsage {
  readonly current: number;
  /** undefined: no limit. */
  readonly limit: number | undefined;
}

export interface DeviceIo {
  /** `major:minor`. */
  readonly device: string;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly reads: number;
  readonly writes: number;
}

export interface HugepageUsage {
  /** As the kernel spells it: `2MB`, `1GB`. */
  readonly pageSize: string;
  readonly usageBytes: number;
  /** undefined on v2, which does not keep it. */
  readonly peakBytes: number | undefined;
}

export interface PressureLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly totalUs: bigint;
}

/** Pressure stall information (kernel Documentation/accounting/psi.rst). `full` is absent for cpu on old kernels. */
export interface Pressure {
  readonly some: PressureLine;
  readonly full: PressureLine | undefined;
}

/** What is asked for every few seconds; each part undefined when the group is gone or the kernel keeps no such number. */
export interface GroupUsage {
  readonly cpu: { readonly usageNs: bigint } | undefined;
  readonly memory: MemoryUsage | undefined;
  readonly pressure: { readonly cpu: Pressure | undefined; readonly memory: Pressure | undefined; readonly io: Pressure | undefined };
}

/** The rest of what the kernel counts for a group. */
export interface GroupDetails {
  readonly cpuTimes: CpuTimes | undefined;
  readonly pids: PidsUsage | undefined;
  readonly history: MemoryHistory | undefined;
  /** How many processes the OOM killer took, those of groups below included on v2. */
  readonly oomKills: number | undefined;
  /** One entry per device that was used; groups below included. */
  readonly io: readonly DeviceIo[] | undefined;
  /** Empty without the hugetlb controller. */
  readonly hugepages: readonly HugepageUsage[];
}

/**
 * The groups of this machine. Paths begin with `/` and are relative to the root of the hierarchy; `/`, empty parts and `..` are a Fault 'invalid'.
 * Readers cost one open and read per file and never sum over children.
 */
export interface Cgroups {
  readonly version: 1 | 2;
  /** Controllers that can be used here: `cpu`, `cpuset`, `memory`, `pids`, `hugetlb`, `io` (v1: `blkio` counts as `io`)… */
  readonly controllers: ReadonlySet<string>;
  /** Whether groups have pressure stall information here. */
  readonly hasPressure: boolean;

  /** Makes the group and its parents in every hierarchy, hands controllers down to it, then `apply`. May run twice. */
  create(path: string, resources?: CgroupResources): Promise<void>;
  /** Sets limits of an existing group, all or none. Fault 'precondition' when the controller for a given value does not exist here. */
  apply(path: string, resources: CgroupResources): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Names of the groups directly below (no paths), in any hierarchy; empty when the group is gone. */
  children(path: string): Promise<string[]>;
  /** Removes the group and those below it, bottom up, in every hierarchy. Waits while processes die, until `ctx` ends or for `waitMs` (5 s). Absent is success. */
  remove(ctx: Ctx, path: string, options?: { waitMs?: number }): Promise<void>;
  /** SIGKILL to all processes in the group and below; returns when none is left or throws Fault 'timeout' after `waitMs` (10 s). Absent is success. */
  kill(ctx: Ctx, path: string, options?: { waitMs?: number }): Promise<void>;
  /** Process ids in the group, with `recursive` also in those below; empty when it is gone. */
  processes(path: string, options?: { recursive?: boolean }): Promise<number[]>;
  /** As `processes` with `recursive`, but as one hierarchy tells it: enough to count and look at them, not to kill them. */
  members(path: string): Promise<number[]>;
  /**
   * Moves a process (all its threads) into the group, in every hierarchy, or on v1 only in those of `controllers` (`memory`, `name=systemd`; as
   * /proc/PID/cgroup names them): each move waits milliseconds for the kernel.
   */
  attach(path: string, pid: number, options?: { controllers?: readonly string[] }): Promise<void>;

  /** Seven or eight files in one turn: 0.1 ms. */
  usage(path: string): Promise<GroupUsage>;
  details(path: string): Promise<GroupDetails>;
}
