/** Pure reading of cgroup files, paths and mounts. Formats: kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. */
import { Fault } from './fault.ts';
import type { DeviceIo, Pressure, PressureLine } from './cgroup-types.ts';

export interface CgroupMounts {
  /** Controller or `name=…` of a v1 hierarchy → where it is mounted; controllers mounted together share a directory. */
  readonly v1: ReadonlyMap<string, string>;
  /** Where cgroup v2 is mounted: the only hierarchy, or the additional one of a hybrid machine. */
  readonly unified: string | undefined;
}

/** Options of a v1 superblock that are no controllers (cgroup-v1/cgroups.rst). */
const NOT_CONTROLLERS = new Set(['rw', 'ro', 'xattr', 'noprefix', 'clone_children', 'none', 'cpuset_v2_mode', 'favordynmods']);

/** The cgroup mounts in a /proc/PID/mountinfo. Of several mounts of one hierarchy the shortest path wins, as in the kubelet. */
export function parseCgroupMounts(mountinfo: string): CgroupMounts {
  const v1 = new Map<string, string>();
  let unified: string | undefined;
  const shorter = (old: string | undefined, next: string): string => (old === undefined || next.length < old.length ? next : old);
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    const [type, , superOptions] = after?.split(' ') ?? [];
    const mountPoint = before?.split(' ')[4]?.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (mountPoint === undefined) continue;
    if (type === 'cgroup2') unified = shorter(unified, mountPoint);
    if (type !== 'cgroup') continue;
    for (const option of superOptions?.split(',') ?? []) {
      if (!NOT_CONTROLLERS.has(option) && (option.startsWith('name=') || !option.includes('='))) v1.set(option, shorter(v1.get(option), mountPoint));
    }
  }
  return { v1, unified };
}

/** The parts of a cgroup path, checked: absolute, not the root, no empty part, no `.` or `..`. Throws Fault 'invalid'. */
export function cgroupPathParts(path: string): string[] {
  const [first, ...parts] = path.split('/');
  if (first !== '' || parts.length === 0 || parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0') || part.length > 255)) {
    throw new Fault('invalid', `cgroup path ${JSON.stringify(path)}: must be absolute, below the root and without empty, '.' or '..' parts`);
  }
  return parts;
}

/**
 * The path of a systemd slice: `a-b.slice` lies in `a.slice`, and `-.slice` is the root (systemd.slice(5)).
 * `kubepods-burstable.slice` → `/kubepods.slice/kubepods-burstable.slice`. Throws Fault 'invalid' for what is no slice name.
 */
export function expandSlice(slice: string): string {
  if (slice === '-.slice') return '/';
  const name = slice.endsWith('.slice') ? slice.slice(0, -'.slice'.length) : '';
  const parts = name.split('-');
  if (name.includes('/') || parts.includes('')) throw new Fault('invalid', `systemd slice ${JSON.stringify(slice)}: no valid slice name`);
  return parts.map((_, depth) => `/${parts.slice(0, depth + 1).join('-')}.slice`).join('');
}

/**
 * CPU shares of cgroup v1 (2…262144, default 1024) as `cpu.weight` (1…10000, default 100): 1024 → 100 (39 by the older, linear formula).
 * Source: opencontainers/cgroups pull 20, the formula of runc ≥ 1.3.2 and crun ≥ 1.23. The kubelet still uses the linear one for pod groups;
 * all siblings here are ours, so one formula for pods and containers keeps their proportions.
 */
export function weightOfShares(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** `cgroup.procs`. Processes of other pid namespaces appear as 0 and are left out. */
export const parsePids = (text: string): number[] => text.split('\n').map(Number).filter((pid) => pid > 0);

/** Lines of `key number`: memory.stat, cpu.stat, memory.events, memory.oom_control. */
export function parseFlatKeyed(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) values.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return values;
}

/** v1 writes "no limit" as the largest multiple of the page size in 63 bits. */
const V1_NO_LIMIT = 2 ** 62;

/** One number, or undefined for "no limit" (`max`, -1, v1's huge number). */
export function parseLimit(text: string): number | undefined {
  const word = text.trim();
  const value = Number(word);
  return word === 'max' || word === '' || !Number.isFinite(value) || value < 0 || value >= V1_NO_LIMIT ? undefined : value;
}

/** `io.stat` of v2: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`; a device that did nothing has a line without numbers. */
export function parseIoStat(text: string): DeviceIo[] {
  return text.split('\n').flatMap((line) => {
    const [device = '', ...pairs] = line.trim().split(' ');
    const values = new Map(pairs.map((pair) => pair.split('=') as [string, string]));
    const number = (key: string): number => Number(values.get(key) ?? 0);
    return values.has('rbytes') ? [{ device, readBytes: number('rbytes'), writeBytes: number('wbytes'), reads: number('rios'), writes: number('wios') }] : [];
  });
}

/** `blkio.throttle.io_service_bytes_recursive` and `…io_serviced_recursive` of v1: `8:0 Read 1`. */
export function parseBlkio(bytesText: string, operationsText: string): DeviceIo[] {
  const valuesOf = (text: string): Map<string, number> => new Map([...text.matchAll(/^(\d+:\d+ \w+) (\d+)$/gm)].map(([, key = '', value]) => [key, Number(value)]));
  const bytes = valuesOf(bytesText);
  const operations = valuesOf(operationsText);
  const devices = new Set([...bytes.keys(), ...operations.keys()].map((key) => key.split(' ')[0] ?? ''));
  return [...devices].map((device) => ({
    device,
    readBytes: bytes.get(`${device} Read`) ?? 0, writeBytes: bytes.get(`${device} Write`) ?? 0,
    reads: operations.get(`${device} Read`) ?? 0, writes: operations.get(`${device} Write`) ?? 0,
  }));
}

/** Names in /sys/kernel/mm/hugepages as the files of the hugetlb controller spell them: `hugepages-2048kB` → `2MB`. */
export function hugepageSize(name: string): string | undefined {
  const kilobytes = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
  if (!(kilobytes > 0)) return undefined;
  if (kilobytes >= 1 << 20) return `${kilobytes >> 20}GB`;
  return kilobytes >= 1 << 10 ? `${kilobytes >> 10}MB` : `${kilobytes}KB`;
}

/** `cpu.pressure`, `memory.pressure`, `io.pressure`; undefined when there is no `some` line. */
export function parsePressure(text: string): Pressure | undefined {
  const line = (name: string): PressureLine | undefined => {
    const found = new RegExp(`^${name} avg10=([\\d.]+) avg60=([\\d.]+) avg300=([\\d.]+) total=(\\d+)$`, 'm').exec(text);
    return found === null ? undefined : { avg10: Number(found[1]), avg60: Number(found[2]), avg300: Number(found[3]), totalUs: BigInt(found[4] ?? 0) };
  };
  const some = line('some');
  return some === undefined ? undefined : { some, full: line('full') };
}
