/** What the machine is: identity, kernel, processors, memory. Read once; none of it changes before the next boot but the addresses. */
import { lookup } from 'node:dns/promises';
import { readdir, readFile } from 'node:fs/promises';
import { arch, cpus, hostname, networkInterfaces, release } from 'node:os';
import { isIPv6 } from 'node:net';
import { fileSystemRoom } from '#host/disk.ts';

export interface HostInfo {
  readonly hostName: string;
  readonly machineId: string;
  readonly systemUuid: string;
  readonly bootId: string;
  readonly kernelVersion: string;
  readonly osImage: string;
  /** Go's names: amd64, arm64. */
  readonly architecture: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly swapBytes: number;
  /** Of the file system that holds the agent's directory. */
  readonly diskBytes: number;
  /** Bytes reserved as huge pages, by page size in KiB. */
  readonly hugePages: ReadonlyMap<number, number>;
}

const goArchitectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64', arm: 'arm', ia32: '386', ppc64: 'ppc64le', s390x: 's390x', riscv64: 'riscv64' };

export async function readHostInfo(agentDir: string): Promise<HostInfo> {
  const machineId = await firstText('/etc/machine-id', '/var/lib/dbus/machine-id');
  const memory = parseMeminfo(await readFile('/proc/meminfo', 'utf8'));
  return {
    hostName: hostname(),
    machineId,
    systemUuid: (await firstText('/sys/class/dmi/id/product_uuid', '/proc/device-tree/vm,uuid')) || machineId,
    bootId: await firstText('/proc/sys/kernel/random/boot_id'),
    kernelVersion: release(),
    osImage: prettyName(await firstText('/etc/os-release', '/usr/lib/os-release')),
    architecture: goArchitectures[arch()] ?? arch(),
    cores: cpus().length,
    memoryBytes: memory.totalBytes,
    swapBytes: memory.swapBytes,
    diskBytes: Number((await fileSystemRoom(agentDir)).totalBytes),
    hugePages: await readHugePages(),
  };
}

/** The first of the files that can be read, trimmed; empty when none can. */
async function firstText(...paths: string[]): Promise<string> {
  for (const path of paths) {
    try {
      return (await readFile(path, 'utf8')).trim();
    } catch {
      continue; // absent in containers and on other architectures
    }
  }
  return '';
}

export function parseMeminfo(text: string): { totalBytes: number; swapBytes: number } {
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return { totalBytes: bytes('MemTotal'), swapBytes: bytes('SwapTotal') };
}

export const prettyName = (osRelease: string): string => /^PRETTY_NAME=["']?(.*?)["']?$/m.exec(osRelease)?.[1] ?? '';

async function readHugePages(): Promise<Map<number, number>> {
  const found = new Map<number, number>();
  const dir = '/sys/kernel/mm/hugepages';
  for (const name of await readdir(dir).catch(() => [])) {
    const kib = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (kib > 0) found.set(kib, Number(await firstText(`${dir}/${name}/nr_hugepages`)) * kib * 1024);
  }
  return found;
}

/**
 * The addresses of this node, the primary first: as configured (one, or one per family, separated by a comma), else what its name resolves to,
 * else the interface of the default route. Empty when there is none but loopback.
 */
export async function findNodeIps(configured: string | undefined, nodeName: string): Promise<string[]> {
  if (configured !== undefined) return configured.split(',').map((address) => address.trim());
  const resolved = await lookup(nodeName, { all: true }).catch(() => []);
  const local = new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
  const usable = resolved.map(({ address }) => address).filter((address) => local.has(address) && isUsable(address));
  if (usable.length > 0) return [usable.find((address) => !isIPv6(address)) ?? usable[0] ?? ''];
  const device = defaultRouteDevice(await firstText('/proc/net/route'));
  const interfaces = networkInterfaces();
  const candidates = [...(interfaces[device ?? ''] ?? []), ...Object.values(interfaces).flatMap((list) => list ?? [])];
  const chosen = candidates.find(({ address, internal }) => !internal && !isIPv6(address)) ?? candidates.find(({ address, internal }) => !internal && isUsable(address));
  return chosen === undefined ? [] : [chosen.address];
}

const isUsable = (address: string): boolean => !/^(127\.|::1$|fe80:|0\.0\.0\.0$|::$|169\.254\.)/i.test(address);

/** Of /proc/net/route: destination and mask zero, the smallest metric. */
export function defaultRouteDevice(table: string): string | undefined {
  const rows = table.split('\n').slice(1).map((row) => row.split('\t'));
  const defaults = rows.filter((row) => row[1] === '00000000' && row[7] === '00000000');
  return defaults.toSorted((one, other) => Number(one[6]) - Number(other[6]))[0]?.[0]?.trim();
}
