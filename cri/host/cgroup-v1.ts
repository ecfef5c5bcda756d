/**
 * Groups of cgroup v1, where each controller has a tree of its own, and of hybrid machines, where an empty v2 tree stands beside them.
 * We make groups in the v1 trees only, as the kubelet does; OCI runtimes also make theirs in the v2 tree, so removing, killing and pressure look there too.
 * Source of the rules: kernel Documentation/admin-guide/cgroup-v1.
 */
import { join } from 'node:path';
import { applySettings } from './cgroup-apply.ts';
import { groupsDeepestFirst, groupsIn, hugepageSizes, insist, killAll, makeGroups, pidsIn, readCgroupFile, readCgroupFileNow, tryRemove, writeCgroupFile, writeSetting } from './cgroup-files.ts';
import { cgroupPathParts, parseBlkio, parseFlatKeyed, parseLimit, parsePressure, type CgroupMounts } from './cgroup-parse.ts';
import { settingsV1 } from './cgroup-settings.ts';
import type { CgroupResources, Cgroups, CpuTimes, DeviceIo, GroupDetails, GroupUsage, HugepageUsage, MemoryHistory, MemoryUsage, PidsUsage, Pressure } from './cgroup-types.ts';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { turn } from './turns.ts';

/** `cpuacct.stat` counts in ticks of USER_HZ, which is 100 on every architecture Node runs on. */
const NS_PER_TICK = 10_000_000n;

export class CgroupsV1 implements Cgroups {
  readonly version = 1;
  readonly hasPressure: boolean;
  readonly controllers: ReadonlySet<string>;
  /** Controller → mount point. */
  readonly #mounts: ReadonlyMap<string, string>;
  readonly #unified: string | undefined;
  /** Every v1 tree once: controllers mounted together share one. */
  readonly #trees: readonly string[];

  constructor({ v1, unified }: CgroupMounts, hasPressure: boolean) {
    this.hasPressure = hasPressure && unified !== undefined;
    this.#mounts = v1;
    this.#unified = unified;
    this.#trees = [...new Set(v1.values())];
    const names = [...v1.keys()].filter((name) => !name.startsWith('name='));
    this.controllers = new Set(names.map((name) => (name === 'blkio' ? 'io' : name)));
  }

  async create(path: string, resources: CgroupResources = {}): Promise<void> {
    const parts = cgroupPathParts(path);
    const cpuset = this.#mounts.get('cpuset');
    await Promise.all(this.#trees.map((tree) => whileRemoved(async () => {
      const made = await makeGroups(tree, parts);
      if (tree === cpuset) for (const directory of made) await inheritCpuset(directory);
    })));
    await this.apply(path, resources);
  }

  async apply(path: string, resources: CgroupResources): Promise<void> {
    await applySettings(settingsV1(resources).map(({ controller, file, value }) => {
      const tree = this.#mounts.get(controller);
      if (tree === undefined) throw new Fault('precondition', `cgroup ${path}: no ${controller} controller for ${file}`);
      return { directory: join(tree, ...cgroupPathParts(path)), file, value };
    }));
  }

  async exists(path: string): Promise<boolean> {
    for (const directory of this.#everywhere(path)) if ((await readCgroupFile(join(directory, 'cgroup.procs'))) !== undefined) return true;
    return false;
  }

  async children(path: string): Promise<string[]> {
    return [...new Set((await Promise.all(this.#everywhere(path).map(groupsIn))).flat())];
  }

  async remove(ctx: Ctx, path: string, { waitMs = 5000 } = {}): Promise<void> {
    const directories = this.#everywhere(path);
    await insist(ctx, `remove cgroup ${path}`, waitMs, () => tryRemove(directories));
  }

  /** Frozen while it is read and signalled, so that nobody forks away; a frozen process dies when thawed. */
  async kill(ctx: Ctx, path: string, { waitMs = 10_000 } = {}): Promise<void> {
    const directories = this.#everywhere(path);
    const freezer = this.#mounts.get('freezer');
    const frozen = freezer === undefined ? undefined : join(freezer, ...cgroupPathParts(path));
    await insist(ctx, `kill cgroup ${path}`, waitMs, async () => {
      const groups = (await Promise.all(directories.map(groupsDeepestFirst))).flat();
      if ((await pidsIn(groups)).size === 0) return true;
      if (frozen !== undefined) await setFreezer(frozen, 'FROZEN');
      try {
        killAll(await pidsIn(groups));
      } finally {
        // Also those below that someone else froze (a paused container): they would keep their SIGKILL for ever.
        if (frozen !== undefined) for (const directory of (await groupsDeepestFirst(frozen)).toReversed()) await setFreezer(directory, 'THAWED');
      }
      return false;
    });
  }

  async processes(path: string, { recursive = false } = {}): Promise<number[]> {
    const directories = this.#everywhere(path);
    return [...(await pidsIn(recursive ? (await Promise.all(directories.map(groupsDeepestFirst))).flat() : directories))];
  }

  async members(path: string): Promise<number[]> {
    const tree = this.#mounts.get('pids') ?? this.#mounts.get('memory') ?? this.#trees[0];
    return tree === undefined ? [] : [...(await pidsIn(await groupsDeepestFirst(join(tree, ...cgroupPathParts(path)))))];
  }

  async attach(path: string, pid: number, { controllers }: { controllers?: readonly string[] } = {}): Promise<void> {
    const chosen = controllers?.flatMap((name) => this.#mounts.get(name) ?? []);
    for (const tree of chosen === undefined ? this.#trees : new Set(chosen)) await writeSetting(join(tree, ...cgroupPathParts(path)), { file: 'cgroup.procs', value: String(pid) });
  }

  async usage(path: string): Promise<GroupUsage> {
    cgroupPathParts(path);
    await turn();
    return {
      cpu: this.#cpu(path), memory: this.#memory(path),
      pressure: { cpu: this.#pressure(path, 'cpu'), memory: this.#pressure(path, 'memory'), io: this.#pressure(path, 'io') },
    };
  }

  async details(path: string): Promise<GroupDetails> {
    cgroupPathParts(path);
    await turn();
    const oom = this.#read(path, 'memory', 'memory.oom_control');
    return {
      cpuTimes: this.#cpuTimes(path), pids: this.#pids(path), history: this.#history(path), oomKills: oom === undefined ? undefined : parseFlatKeyed(oom).get('oom_kill'),
      io: this.#io(path), hugepages: this.#hugepages(path),
    };
  }

  #cpu(path: string): GroupUsage['cpu'] {
    const usage = this.#read(path, 'cpuacct', 'cpuacct.usage');
    return usage === undefined ? undefined : { usageNs: BigInt(usage.trim()) };
  }

  #cpuTimes(path: string): CpuTimes | undefined {
    const tickText = this.#read(path, 'cpuacct', 'cpuacct.stat');
    if (tickText === undefined) return undefined;
    const ticks = parseFlatKeyed(tickText);
    const stat = parseFlatKeyed(this.#read(path, 'cpu', 'cpu.stat') ?? '');
    return {
      userNs: BigInt(ticks.get('user') ?? 0) * NS_PER_TICK, systemNs: BigInt(ticks.get('system') ?? 0) * NS_PER_TICK,
      periods: stat.get('nr_periods') ?? 0, throttledPeriods: stat.get('nr_throttled') ?? 0, throttledNs: BigInt(stat.get('throttled_time') ?? 0),
    };
  }

  #memory(path: string): MemoryUsage | undefined {
    const usage = this.#read(path, 'memory', 'memory.usage_in_bytes');
    const statText = this.#read(path, 'memory', 'memory.stat');
    if (usage === undefined || statText === undefined) return undefined;
    const stat = parseFlatKeyed(statText);
    const number = (key: string): number => stat.get(key) ?? 0;
    const usageBytes = Number(usage);
    const limitBytes = parseLimit(this.#read(path, 'memory', 'memory.limit_in_bytes') ?? '');
    // memory.memsw counts memory and swap together; without a limit of memory nothing says how much of it is for swap.
    const bothLimit = limitBytes === undefined ? undefined : parseLimit(this.#read(path, 'memory', 'memory.memsw.limit_in_bytes') ?? '');
    const swapLimit = bothLimit === undefined || limitBytes === undefined ? undefined : Math.max(0, bothLimit - limitBytes);
    return {
      usageBytes, workingSetBytes: Math.max(0, usageBytes - number('total_inactive_file')),
      rssBytes: number('total_rss'), cacheBytes: number('total_cache'), mappedFileBytes: number('total_mapped_file'),
      activeFileBytes: number('total_active_file'), inactiveFileBytes: number('total_inactive_file'),
      pageFaults: number('total_pgfault'), majorPageFaults: number('total_pgmajfault'), ownPageFaults: number('pgfault'), ownMajorPageFaults: number('pgmajfault'),
      limitBytes, swap: stat.has('total_swap') ? { usageBytes: number('total_swap'), limitBytes: swapLimit } : undefined,
    };
  }

  #history(path: string): MemoryHistory | undefined {
    const peak = this.#read(path, 'memory', 'memory.max_usage_in_bytes');
    if (peak === undefined) return undefined;
    const hits = this.#read(path, 'memory', 'memory.failcnt');
    const kernel = this.#read(path, 'memory', 'memory.kmem.usage_in_bytes');
    return { peakBytes: Number(peak), limitHits: hits === undefined ? undefined : Number(hits), kernelBytes: kernel === undefined ? undefined : Number(kernel) };
  }

  #pids(path: string): PidsUsage | undefined {
    const current = this.#read(path, 'pids', 'pids.current');
    return current === undefined ? undefined : { current: Number(current), limit: parseLimit(this.#read(path, 'pids', 'pids.max') ?? '') };
  }

  #io(path: string): DeviceIo[] | undefined {
    const bytes = this.#read(path, 'blkio', 'blkio.throttle.io_service_bytes_recursive');
    const operations = this.#read(path, 'blkio', 'blkio.throttle.io_serviced_recursive');
    return bytes === undefined || operations === undefined ? undefined : parseBlkio(bytes, operations);
  }

  #hugepages(path: string): HugepageUsage[] {
    if (!this.controllers.has('hugetlb')) return [];
    return hugepageSizes().flatMap((pageSize) => {
      const usage = this.#read(path, 'hugetlb', `hugetlb.${pageSize}.usage_in_bytes`);
      const peak = this.#read(path, 'hugetlb', `hugetlb.${pageSize}.max_usage_in_bytes`);
      return usage === undefined ? [] : [{ pageSize, usageBytes: Number(usage), peakBytes: peak === undefined ? undefined : Number(peak) }];
    });
  }

  #pressure(path: string, what: 'cpu' | 'memory' | 'io'): Pressure | undefined {
    const text = this.hasPressure ? readCgroupFileNow(`${this.#unified}${path}/${what}.pressure`) : undefined;
    return text === undefined ? undefined : parsePressure(text);
  }

  #everywhere(path: string): string[] {
    const parts = cgroupPathParts(path);
    return [...this.#trees, ...(this.#unified === undefined ? [] : [this.#unified])].map((tree) => join(tree, ...parts));
  }

  /** For a checked path, by who has waited for a turn. */
  #read(path: string, controller: string, file: string): string | undefined {
    const tree = this.#mounts.get(controller);
    return tree === undefined ? undefined : readCgroupFileNow(`${tree}${path}/${file}`);
  }
}

const removedTries = 20;

/** Somebody else may remove a group that we are making, for instance another nodelet the one of the monitors: then it is made again. */
async function whileRemoved(make: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await make();
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENODEV') || tries >= removedTries) throw error;
    }
  }
}

/** A new group of v1's cpuset takes no process before it has processors and memory nodes: those of its parent. */
async function inheritCpuset(directory: string): Promise<void> {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const own = await readCgroupFile(join(directory, file));
    const inherited = await readCgroupFile(join(directory, '..', file));
    if (own?.trim() === '' && inherited !== undefined) await writeCgroupFile(join(directory, file), inherited.trim());
  }
}

async function setFreezer(directory: string, state: 'FROZEN' | 'THAWED'): Promise<void> {
  try {
    await writeCgroupFile(join(directory, 'freezer.state'), state);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}
