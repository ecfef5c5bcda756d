/** Numbers of a control group as CRI messages. Pure. */
import { type CpuUsage, type IoUsage, MemoryUsage, type NetworkUsage, type PsiStats, type SwapUsage, type UInt64Value } from '#cri-api';
import type { GroupUsage, Pressure, PressureLine } from '#host/cgroup-types.ts';
import { podInterface } from '../state/sandbox-record.ts';

export interface GroupNumbers extends GroupUsage {
  /** Billionths of a core; undefined at the first reading. */
  readonly nanoCores: bigint | undefined;
}

/** What several groups use together: without limits and pressure, which do not add up. */
export function sumOf(usages: readonly GroupUsage[]): GroupUsage {
  const cpus = usages.flatMap(({ cpu }) => cpu ?? []);
  const memories = usages.flatMap(({ memory }) => memory ?? []);
  const sum = <K extends string>(from: readonly Readonly<Record<K, number>>[], key: K): number => from.reduce((total, each) => total + each[key], 0);
  return {
    cpu: { usageNs: cpus.reduce((total, { usageNs }) => total + usageNs, 0n) },
    memory: {
      usageBytes: sum(memories, 'usageBytes'), workingSetBytes: sum(memories, 'workingSetBytes'), rssBytes: sum(memories, 'rssBytes'),
      cacheBytes: sum(memories, 'cacheBytes'), mappedFileBytes: sum(memories, 'mappedFileBytes'),
      activeFileBytes: sum(memories, 'activeFileBytes'), inactiveFileBytes: sum(memories, 'inactiveFileBytes'),
      pageFaults: sum(memories, 'pageFaults'), majorPageFaults: sum(memories, 'majorPageFaults'),
      ownPageFaults: sum(memories, 'ownPageFaults'), ownMajorPageFaults: sum(memories, 'ownMajorPageFaults'),
      limitBytes: undefined, swap: undefined,
    },
    pressure: { cpu: undefined, memory: undefined, io: undefined },
  };
}

/** A number that is known, as the CRI wraps it. */
export const known = (value: number | bigint | undefined): UInt64Value | undefined => (value === undefined ? undefined : { value: BigInt(value) });

export const cpuMessage = (numbers: GroupNumbers, timestamp: bigint): CpuUsage =>
  ({ timestamp, usageCoreNanoSeconds: known(numbers.cpu?.usageNs), usageNanoCores: known(numbers.nanoCores), psi: psi(numbers.pressure.cpu) });

export const ioMessage = (numbers: GroupNumbers, timestamp: bigint): IoUsage => ({ timestamp, psi: psi(numbers.pressure.io) });

export function memoryMessage(numbers: GroupNumbers, timestamp: bigint): MemoryUsage {
  const { memory } = numbers;
  if (memory === undefined) return MemoryUsage.create({ timestamp });
  // Without a limit nothing says how much is available (kubelet, cri_stats_provider.go).
  const availableBytes = memory.limitBytes === undefined ? undefined : Math.max(0, memory.limitBytes - memory.workingSetBytes);
  return {
    timestamp,
    workingSetBytes: known(memory.workingSetBytes),
    availableBytes: known(availableBytes),
    usageBytes: known(memory.usageBytes),
    rssBytes: known(memory.rssBytes),
    pageFaults: known(memory.pageFaults),
    majorPageFaults: known(memory.majorPageFaults),
    psi: psi(numbers.pressure.memory),
  };
}

export function swapMessage(numbers: GroupNumbers, timestamp: bigint): SwapUsage {
  const swap = numbers.memory?.swap;
  const availableBytes = swap?.limitBytes === undefined ? undefined : Math.max(0, swap.limitBytes - swap.usageBytes);
  return { timestamp, swapAvailableBytes: known(availableBytes), swapUsageBytes: known(swap?.usageBytes) };
}

function psi(pressure: Pressure | undefined): PsiStats | undefined {
  if (pressure === undefined) return undefined;
  const line = ({ totalUs, avg10, avg60, avg300 }: PressureLine): NonNullable<PsiStats['Some']> => ({ Total: totalUs, Avg10: avg10, Avg60: avg60, Avg300: avg300 });
  return { Some: line(pressure.some), Full: pressure.full === undefined ? undefined : line(pressure.full) };
}

export interface InterfaceCounters {
  readonly name: string;
  readonly rxBytes: bigint;
  readonly rxPackets: bigint;
  readonly rxErrors: bigint;
  readonly rxDropped: bigint;
  readonly txBytes: bigint;
  readonly txPackets: bigint;
  readonly txErrors: bigint;
  readonly txDropped: bigint;
}

/**
 * Undefined without interfaces, as with the host's network. The pod's own is the default one, wherever it stands in the list: the kernel puts its fallback
 * tunnels (tunl0, sit0) into every namespace before CNI comes.
 */
export function networkMessage(interfaces: readonly InterfaceCounters[], timestamp: bigint): NetworkUsage | undefined {
  const pods = interfaces.find(({ name }) => name === podInterface) ?? interfaces[0];
  const usage = ({ name, rxBytes, rxErrors, txBytes, txErrors }: InterfaceCounters): NonNullable<NetworkUsage['defaultInterface']> => ({
    name, rxBytes: known(rxBytes), rxErrors: known(rxErrors), txBytes: known(txBytes), txErrors: known(txErrors),
  });
  return pods && { timestamp, defaultInterface: usage(pods), interfaces: interfaces.filter((each) => each !== pods).map(usage) };
}

/** /proc/PID/net/dev (proc(5)) without `lo`. */
export function parseNetDev(text: string): InterfaceCounters[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*(\S+?):\s*(.*)$/.exec(line);
    const [, name, numbers] = match ?? [];
    if (name === undefined || numbers === undefined || name === 'lo') return [];
    const [rxBytes = 0n, rxPackets = 0n, rxErrors = 0n, rxDropped = 0n, , , , , txBytes = 0n, txPackets = 0n, txErrors = 0n, txDropped = 0n] = numbers.split(/\s+/).map(BigInt);
    return [{ name, rxBytes, rxPackets, rxErrors, rxDropped, txBytes, txPackets, txErrors, txDropped }];
  });
}
