/** Groups of cgroup v2, where one tree has all controllers. Source of the rules: kernel Documentation/admin-guide/cgroup-v2.rst. */
import { join } from 'node:path';
import { applySettings } from './cgroup-apply.ts';
import { groupsDeepestFirst, groupsIn, hugepageSizes, insist, killAll, makeGroups, pidsIn, readCgroupFile, readCgroupFileNow, tryRemove, writeCgroupFile, writeSetting } from './cgroup-files.ts';
import { cgroupPathParts, parseFlatKeyed, parseIoStat, parseLimit, parsePressure } from './cgroup-parse.ts';
import { settingsV2 } from './cgroup-settings.ts';
import type { CgroupResources, Cgroups, CpuTimes, GroupDetails, GroupUsage, HugepageUsage, MemoryHistory, MemoryUsage, PidsUsage, Pressure } from './cgroup-types.ts';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { turn } from './turns.ts';

/** What we hand down the tree: the kubelet's needs (cpu, cpuset, memory, pids, hugetlb) and io for the numbers. */
const USED_CONTROLLERS = ['cpu', 'cpuset', 'io', 'memory', 'pids', 'hugetlb'];

const namesIn = (text: string | undefined): Set<string> => new Set((text ?? '').split(/\s+/).filter((name) => name !== ''));

export class CgroupsV2 implements Cgroups {
  readonly version = 2;
  readonly hasPressure: boolean;
  readonly controllers: ReadonlySet<string>;
  readonly #root: string;

  /** `controllers`: text of the root's `cgroup.controllers`. */
  constructor(root: string, controllers: string, hasPressure: boolean) {
    this.hasPressure = hasPressure;
    this.#root = root;
    this.controllers = namesIn(controllers);
  }

  async create(path: string, resources: CgroupResources = {}): Promise<void> {
    const parts = cgroupPathParts(path);
    await makeGroups(this.#root, parts);
    await this.#enableDownTo(parts);
    await this.apply(path, resources);
  }

  /** A controller is usable in a group when every ancestor has it in `cgroup.subtree_control`; from the top, since each needs its parent's. */
  async #enableDownTo(parts: readonly string[]): Promise<void> {
    const missingIn = async (directory: string): Promise<string[]> => {
      const have = namesIn(await readCgroupFile(join(directory, 'cgroup.controllers')));
      return USED_CONTROLLERS.filter((name) => this.controllers.has(name) && !have.has(name));
    };
    if ((await missingIn(join(this.#root, ...parts))).length === 0) return;
    for (let depth = 0; depth < parts.length; depth += 1) {
      const directory = join(this.#root, ...parts.slice(0, depth));
      for (const name of await missingIn(join(directory, parts[depth] ?? ''))) await this.#enable(directory, name);
    }
  }

  /** One by one: a controller that the kernel refuses for a reason of its own (cpu with real-time threads) must not cost the others. */
  async #enable(directory: string, controller: string): Promise<void> {
    try {
      await writeCgroupFile(join(directory, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      if (isErrno(error, 'EBUSY')) {
        throw new Fault('precondition', `cgroup ${directory}: cannot hand down ${controller} because processes live in the group itself; move them to a group below`, error);
      }
      // The group stays without it; `apply` says so if a value for it is wanted.
      if (!isErrno(error, 'EINVAL', 'EOPNOTSUPP', 'ENOENT')) throw error;
    }
  }

  async apply(path: string, resources: CgroupResources): Promise<void> {
    const directory = this.#directory(path);
    await applySettings(settingsV2(resources).map(({ file, value }) => ({ directory, file, value })));
  }

  async exists(path: string): Promise<boolean> {
    return (await readCgroupFile(join(this.#directory(path), 'cgroup.procs'))) !== undefined;
  }

  async children(path: string): Promise<string[]> {
    return groupsIn(this.#directory(path));
  }

  async remove(ctx: Ctx, path: string, { waitMs = 5000 } = {}): Promise<void> {
    const directory = this.#directory(path);
    await insist(ctx, `remove cgroup ${path}`, waitMs, () => tryRemove([directory]));
  }

  async kill(ctx: Ctx, path: string, { waitMs = 10_000 } = {}): Promise<void> {
    const directory = this.#directory(path);
    await insist(ctx, `kill cgroup ${path}`, waitMs, async () => {
      const events = await readCgroupFile(join(directory, 'cgroup.events'));
      if (events === undefined || parseFlatKeyed(events).get('populated') === 0) return true;
      try {
        await writeCgroupFile(join(directory, 'cgroup.kill'), '1');
      } catch (error) {
        // No cgroup.kill before Linux 5.14: one by one; whoever forks meanwhile is met in the next round. ENODEV: the group has just gone.
        if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
        killAll(await pidsIn(await groupsDeepestFirst(directory)));
      }
      return false;
    });
  }

  async processes(path: string, { recursive = false } = {}): Promise<number[]> {
    const directory = this.#directory(path);
    return [...(await pidsIn(recursive ? await groupsDeepestFirst(directory) : [directory]))];
  }

  members(path: string): Promise<number[]> {
    return this.processes(path, { recursive: true });
  }

  async attach(path: string, pid: number): Promise<void> {
    await writeSetting(this.#directory(path), { file: 'cgroup.procs', value: String(pid) });
  }

  async usage(path: string): Promise<GroupUsage> {
    const directory = this.#directory(path);
    await turn();
    const pressure = (what: string): Pressure | undefined => {
      const text = this.hasPressure ? readCgroupFileNow(`${directory}/${what}.pressure`) : undefined;
      return text === undefined ? undefined : parsePressure(text);
    };
    return { cpu: cpuOf(directory), memory: memoryOf(directory), pressure: { cpu: pressure('cpu'), memory: pressure('memory'), io: pressure('io') } };
  }

  async details(path: string): Promise<GroupDetails> {
    const directory = this.#directory(path);
    await turn();
    const io = readCgroupFileNow(`${directory}/io.stat`);
    const events = readCgroupFileNow(`${directory}/memory.events`);
    return {
      cpuTimes: cpuTimesOf(directory),
      pids: pidsOf(directory),
      history: historyOf(directory),
      oomKills: events === undefined ? undefined : parseFlatKeyed(events).get('oom_kill'),
      io: io === undefined ? undefined : parseIoStat(io),
      hugepages: this.controllers.has('hugetlb') ? hugepagesOf(directory) : [],
    };
  }

  #directory(path: string): string {
    return join(this.#root, ...cgroupPathParts(path));
  }
}

function cpuOf(directory: string): GroupUsage['cpu'] {
  const text = readCgroupFileNow(`${directory}/cpu.stat`);
  return text === undefined ? undefined : { usageNs: BigInt(parseFlatKeyed(text).get('usage_usec') ?? 0) * 1000n };
}

function cpuTimesOf(directory: string): CpuTimes | undefined {
  const text = readCgroupFileNow(`${directory}/cpu.stat`);
  if (text === undefined) return undefined;
  const stat = parseFlatKeyed(text);
  const ns = (key: string): bigint => BigInt(stat.get(key) ?? 0) * 1000n;
  return {
    userNs: ns('user_usec'), systemNs: ns('system_usec'),
    periods: stat.get('nr_periods') ?? 0, throttledPeriods: stat.get('nr_throttled') ?? 0, throttledNs: ns('throttled_usec'),
  };
}

function memoryOf(directory: string): MemoryUsage | undefined {
  const current = readCgroupFileNow(`${directory}/memory.current`);
  const statText = readCgroupFileNow(`${directory}/memory.stat`);
  if (current === undefined || statText === undefined) return undefined;
  const stat = parseFlatKeyed(statText);
  const number = (key: string): number => stat.get(key) ?? 0;
  const usageBytes = Number(current);
  const swap = readCgroupFileNow(`${directory}/memory.swap.current`);
  return {
    usageBytes, workingSetBytes: Math.max(0, usageBytes - number('inactive_file')),
    rssBytes: number('anon'), cacheBytes: number('file'), mappedFileBytes: number('file_mapped'),
    activeFileBytes: number('active_file'), inactiveFileBytes: number('inactive_file'),
    pageFaults: number('pgfault'), majorPageFaults: number('pgmajfault'), ownPageFaults: number('pgfault'), ownMajorPageFaults: number('pgmajfault'),
    limitBytes: parseLimit(readCgroupFileNow(`${directory}/memory.max`) ?? ''),
    swap: swap === undefined ? undefined : { usageBytes: Number(swap), limitBytes: parseLimit(readCgroupFileNow(`${directory}/memory.swap.max`) ?? '') },
  };
}

/** `memory.peak` exists since Linux 5.19, `kernel` in memory.stat since 5.18. */
function historyOf(directory: string): MemoryHistory | undefined {
  const statText = readCgroupFileNow(`${directory}/memory.stat`);
  if (statText === undefined) return undefined;
  const peak = readCgroupFileNow(`${directory}/memory.peak`);
  const events = parseFlatKeyed(readCgroupFileNow(`${directory}/memory.events`) ?? '');
  return { peakBytes: peak === undefined ? undefined : Number(peak), limitHits: events.get('max'), kernelBytes: parseFlatKeyed(statText).get('kernel') };
}

function pidsOf(directory: string): PidsUsage | undefined {
  const current = readCgroupFileNow(`${directory}/pids.current`);
  return current === undefined ? undefined : { current: Number(current), limit: parseLimit(readCgroupFileNow(`${directory}/pids.max`) ?? '') };
}

const hugepagesOf = (directory: string): HugepageUsage[] => hugepageSizes().flatMap((pageSize) => {
  const usage = readCgroupFileNow(`${directory}/hugetlb.${pageSize}.current`);
  return usage === undefined ? [] : [{ pageSize, usageBytes: Number(usage), peakBytes: undefined }];
});
