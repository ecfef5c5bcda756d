/** Numbers of a container → metrics. Pure. */
import type { LinuxContainerResources, Metric } from '#cri-api';
import type { CpuTimes, DeviceIo, GroupDetails, GroupUsage, Pressure } from '#host/cgroup-types.ts';
import type { InterfaceCounters } from './messages.ts';
import { type Emit, metricCollector, type MetricOwner } from './metric-families.ts';
import type { OpenDescriptors } from './process-numbers.ts';

export interface ContainerNumbers extends GroupUsage, Omit<GroupDetails, 'io'> {
  readonly io: readonly NamedDeviceIo[];
  readonly startedAtNs: bigint;
  readonly nowNs: bigint;
  readonly processes: number;
  readonly open: OpenDescriptors;
  readonly openFilesLimit: number | undefined;
  readonly resources: LinuxContainerResources | undefined;
  readonly disk: { readonly usedBytes: number; readonly device: string; readonly totalBytes: number; readonly totalInodes: number; readonly freeInodes: number };
}

/** `device` is `major:minor`, `name` as in /dev. */
export type NamedDeviceIo = DeviceIo & { readonly name: string };

const second = 1_000_000_000n;
const seconds = (ns: bigint | undefined): bigint | undefined => (ns === undefined ? undefined : ns / second);

export function containerMetrics(owner: MetricOwner, numbers: ContainerNumbers): Metric[] {
  const { metrics, emit } = metricCollector(owner);
  emit('container_last_seen', seconds(numbers.nowNs));
  emit('container_start_time_seconds', seconds(numbers.startedAtNs));
  emit('container_cpu_usage_seconds_total', seconds(numbers.cpu?.usageNs));
  emitCpu(emit, numbers.cpuTimes);
  emitMemory(emit, numbers);
  emitDisk(emit, numbers);
  emitProcesses(emit, numbers);
  emitSpec(emit, numbers.resources);
  for (const { pageSize, usageBytes, peakBytes } of numbers.hugepages) {
    emit('container_hugetlb_usage_bytes', usageBytes, pageSize);
    emit('container_hugetlb_max_usage_bytes', peakBytes, pageSize);
  }
  for (const what of ['cpu', 'memory', 'io'] as const) {
    emit(`container_pressure_${what}_waiting_seconds_total`, seconds(totalNs(numbers.pressure[what]?.some)));
    emit(`container_pressure_${what}_stalled_seconds_total`, seconds(totalNs(numbers.pressure[what]?.full)));
  }
  return metrics;
}

const totalNs = (line: Pressure['full']): bigint | undefined => (line === undefined ? undefined : line.totalUs * 1000n);

function emitCpu(emit: Emit, cpu: CpuTimes | undefined): void {
  emit('container_cpu_user_seconds_total', seconds(cpu?.userNs));
  emit('container_cpu_system_seconds_total', seconds(cpu?.systemNs));
  emit('container_cpu_cfs_periods_total', cpu?.periods);
  emit('container_cpu_cfs_throttled_periods_total', cpu?.throttledPeriods);
  emit('container_cpu_cfs_throttled_seconds_total', seconds(cpu?.throttledNs));
}

function emitMemory(emit: Emit, { memory, history, oomKills }: ContainerNumbers): void {
  emit('container_memory_usage_bytes', memory?.usageBytes);
  emit('container_memory_working_set_bytes', memory?.workingSetBytes);
  emit('container_memory_max_usage_bytes', history?.peakBytes);
  emit('container_memory_rss', memory?.rssBytes);
  emit('container_memory_cache', memory?.cacheBytes);
  emit('container_memory_swap', memory?.swap?.usageBytes);
  emit('container_memory_mapped_file', memory?.mappedFileBytes);
  emit('container_memory_kernel_usage', history?.kernelBytes);
  emit('container_memory_total_active_file_bytes', memory?.activeFileBytes);
  emit('container_memory_total_inactive_file_bytes', memory?.inactiveFileBytes);
  emit('container_memory_failcnt', history?.limitHits);
  emit('container_memory_failures_total', memory?.ownPageFaults, 'pgfault', 'container');
  emit('container_memory_failures_total', memory?.ownMajorPageFaults, 'pgmajfault', 'container');
  emit('container_memory_failures_total', memory?.pageFaults, 'pgfault', 'hierarchy');
  emit('container_memory_failures_total', memory?.majorPageFaults, 'pgmajfault', 'hierarchy');
  emit('container_oom_events_total', oomKills);
}

function emitDisk(emit: Emit, { disk, io }: ContainerNumbers): void {
  emit('container_fs_usage_bytes', disk.usedBytes, disk.device);
  emit('container_fs_limit_bytes', disk.totalBytes, disk.device);
  emit('container_fs_inodes_total', disk.totalInodes, disk.device);
  emit('container_fs_inodes_free', disk.freeInodes, disk.device);
  for (const { device, name, reads, writes, readBytes, writeBytes } of io) {
    const [major = '', minor = ''] = device.split(':');
    emit('container_fs_reads_total', reads, name);
    emit('container_fs_writes_total', writes, name);
    emit('container_fs_reads_bytes_total', readBytes, name);
    emit('container_fs_writes_bytes_total', writeBytes, name);
    emit('container_blkio_device_usage_total', readBytes, name, major, minor, 'Read');
    emit('container_blkio_device_usage_total', writeBytes, name, major, minor, 'Write');
  }
}

function emitProcesses(emit: Emit, { pids, processes, open, openFilesLimit }: ContainerNumbers): void {
  emit('container_processes', processes);
  emit('container_threads', pids?.current);
  if (pids !== undefined) emit('container_threads_max', pids.limit ?? 0);
  emit('container_file_descriptors', open.descriptors);
  emit('container_sockets', open.sockets);
  emit('container_ulimits_soft', openFilesLimit, 'max_open_files');
}

/** Zero means "not set" in the CRI; a negative limit means none. */
function emitSpec(emit: Emit, resources: LinuxContainerResources | undefined): void {
  const limit = (bytes: bigint | undefined): bigint => (bytes === undefined || bytes < 0n ? 0n : bytes);
  const given = (value: bigint | undefined): bigint | undefined => (value === undefined || value <= 0n ? undefined : value);
  emit('container_spec_cpu_period', given(resources?.cpuPeriod));
  emit('container_spec_cpu_quota', given(resources?.cpuQuota));
  emit('container_spec_cpu_shares', given(resources?.cpuShares));
  emit('container_spec_memory_limit_bytes', limit(resources?.memoryLimitInBytes));
  // A memory limit without a swap limit allows no swap (cri/spec/resources.ts).
  emit('container_spec_memory_swap_limit_bytes', limit(given(resources?.memorySwapLimitInBytes) ?? resources?.memoryLimitInBytes));
}

/** The metrics of a pod: its interfaces. */
export function podMetrics(owner: MetricOwner, interfaces: readonly InterfaceCounters[]): Metric[] {
  const { metrics, emit } = metricCollector(owner);
  for (const each of interfaces) {
    emit('container_network_receive_bytes_total', each.rxBytes, each.name);
    emit('container_network_receive_packets_total', each.rxPackets, each.name);
    emit('container_network_receive_packets_dropped_total', each.rxDropped, each.name);
    emit('container_network_receive_errors_total', each.rxErrors, each.name);
    emit('container_network_transmit_bytes_total', each.txBytes, each.name);
    emit('container_network_transmit_packets_total', each.txPackets, each.name);
    emit('container_network_transmit_packets_dropped_total', each.txDropped, each.name);
    emit('container_network_transmit_errors_total', each.txErrors, each.name);
  }
  return metrics;
}
