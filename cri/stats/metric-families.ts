/**
 * The metrics that ListPodSandboxMetrics knows: cAdvisor's names, which dashboards are written for, with containerd's label keys, which the kubelet
 * passes on as they are. Values are whole numbers (CRI api.proto, Metric), so seconds are whole seconds. Pure.
 */
import { type Metric, type MetricDescriptor, MetricType } from '#cri-api';

/** Every metric has these; those of a pod have no container and no image. */
const ownKeys: readonly string[] = ['pod', 'namespace', 'container', 'id', 'image'];

interface Family {
  readonly help: string;
  readonly type: MetricType;
  readonly moreKeys: readonly string[];
  /** What this machine must have for the metric to be there at all. */
  readonly needs?: Feature;
}

type Feature = 'pressure' | 'hugepages' | 'hugepage-peaks';

const counter = (help: string, moreKeys: readonly string[] = [], needs?: Feature): Family => ({ help, type: MetricType.COUNTER, moreKeys, ...(needs && { needs }) });
const gauge = (help: string, moreKeys: readonly string[] = [], needs?: Feature): Family => ({ help, type: MetricType.GAUGE, moreKeys, ...(needs && { needs }) });
const ofDevice = ['device'];
const ofInterface = ['interface'];

const families = {
  container_last_seen: gauge('Last time the container was seen, in seconds since 1970'),
  container_start_time_seconds: gauge('Start time of the container, in seconds since 1970'),

  container_cpu_usage_seconds_total: counter('CPU time consumed, in seconds'),
  container_cpu_user_seconds_total: counter('CPU time consumed by programs, in seconds'),
  container_cpu_system_seconds_total: counter('CPU time consumed by the kernel, in seconds'),
  container_cpu_cfs_periods_total: counter('Periods in which the CPU quota was enforced'),
  container_cpu_cfs_throttled_periods_total: counter('Periods in which the container had to wait'),
  container_cpu_cfs_throttled_seconds_total: counter('How long the container had to wait, in seconds'),

  container_memory_usage_bytes: gauge('Memory in use, whenever it was accessed, in bytes'),
  container_memory_working_set_bytes: gauge('Memory in use without inactive file cache, in bytes'),
  container_memory_max_usage_bytes: gauge('The most memory that was in use, in bytes'),
  container_memory_rss: gauge('Anonymous memory, in bytes'),
  container_memory_cache: gauge('File cache, in bytes'),
  container_memory_swap: gauge('Swap in use, in bytes'),
  container_memory_mapped_file: gauge('Memory mapped files, in bytes'),
  container_memory_kernel_usage: gauge('Memory of the kernel for the container, in bytes'),
  container_memory_total_active_file_bytes: gauge('File cache that was used lately, in bytes'),
  container_memory_total_inactive_file_bytes: gauge('File cache that was not used lately, in bytes'),
  container_memory_failcnt: counter('How often the memory limit was reached'),
  container_memory_failures_total: counter('Page faults, by type and by whether groups below count', ['failure_type', 'scope']),
  container_oom_events_total: counter('Processes that were killed for want of memory'),

  container_fs_usage_bytes: gauge('What the container has written, in bytes', ofDevice),
  container_fs_limit_bytes: gauge('Size of the file system that the container writes to, in bytes', ofDevice),
  container_fs_inodes_total: gauge('Inodes of the file system that the container writes to', ofDevice),
  container_fs_inodes_free: gauge('Free inodes of the file system that the container writes to', ofDevice),
  container_fs_reads_total: counter('Reads completed', ofDevice),
  container_fs_writes_total: counter('Writes completed', ofDevice),
  container_fs_reads_bytes_total: counter('Bytes read', ofDevice),
  container_fs_writes_bytes_total: counter('Bytes written', ofDevice),
  container_blkio_device_usage_total: counter('Bytes moved, by device and operation', ['device', 'major', 'minor', 'operation']),

  container_network_receive_bytes_total: counter('Bytes received', ofInterface),
  container_network_receive_packets_total: counter('Packets received', ofInterface),
  container_network_receive_packets_dropped_total: counter('Packets dropped while receiving', ofInterface),
  container_network_receive_errors_total: counter('Errors while receiving', ofInterface),
  container_network_transmit_bytes_total: counter('Bytes sent', ofInterface),
  container_network_transmit_packets_total: counter('Packets sent', ofInterface),
  container_network_transmit_packets_dropped_total: counter('Packets dropped while sending', ofInterface),
  container_network_transmit_errors_total: counter('Errors while sending', ofInterface),

  container_processes: gauge('Processes in the container'),
  container_threads: gauge('Threads in the container'),
  container_threads_max: gauge('How many threads the container may have; 0 is any number'),
  container_file_descriptors: gauge('Open file descriptors of the container'),
  container_sockets: gauge('Open sockets of the container'),
  container_ulimits_soft: gauge("Soft limits of the container's first process", ['ulimit']),

  container_spec_cpu_period: gauge('CPU period of the container, in microseconds'),
  container_spec_cpu_quota: gauge('CPU quota of the container, in microseconds per period'),
  container_spec_cpu_shares: gauge('CPU shares of the container'),
  container_spec_memory_limit_bytes: gauge('Memory limit of the container, in bytes; 0 is none'),
  container_spec_memory_swap_limit_bytes: gauge('Limit of memory and swap together, in bytes; 0 is none'),

  container_hugetlb_usage_bytes: gauge('Huge pages in use, in bytes', ['pagesize'], 'hugepages'),
  container_hugetlb_max_usage_bytes: gauge('The most huge pages that were in use, in bytes', ['pagesize'], 'hugepage-peaks'),

  container_pressure_cpu_waiting_seconds_total: counter('Time in which some task waited for CPU, in seconds', [], 'pressure'),
  container_pressure_cpu_stalled_seconds_total: counter('Time in which no task could go on for want of CPU, in seconds', [], 'pressure'),
  container_pressure_memory_waiting_seconds_total: counter('Time in which some task waited for memory, in seconds', [], 'pressure'),
  container_pressure_memory_stalled_seconds_total: counter('Time in which no task could go on for want of memory, in seconds', [], 'pressure'),
  container_pressure_io_waiting_seconds_total: counter('Time in which some task waited for I/O, in seconds', [], 'pressure'),
  container_pressure_io_stalled_seconds_total: counter('Time in which no task could go on for want of I/O, in seconds', [], 'pressure'),
} as const satisfies Readonly<Record<string, Family>>;

export type MetricName = keyof typeof families;

export interface MachineFeatures {
  readonly version: 1 | 2;
  readonly hasPressure: boolean;
  readonly controllers: ReadonlySet<string>;
}

function has(machine: MachineFeatures, feature: Feature | undefined): boolean {
  switch (feature) {
    case undefined:
      return true;
    case 'pressure':
      return machine.hasPressure;
    case 'hugepages':
      return machine.controllers.has('hugetlb');
    case 'hugepage-peaks':
      return machine.controllers.has('hugetlb') && machine.version === 1;
    default:
      return feature satisfies never;
  }
}

/** Only of what this machine can tell. The same for the life of the server (CRI api.proto, ListMetricDescriptors). */
export const metricDescriptors = (machine: MachineFeatures): MetricDescriptor[] =>
  Object.entries<Family>(families)
    .filter(([, { needs }]) => has(machine, needs))
    .map(([name, { help, moreKeys }]) => ({ name, help, labelKeys: [...ownKeys, ...moreKeys] }));

/** The values of `ownKeys`, in their order. */
export interface MetricOwner {
  readonly pod: string;
  readonly namespace: string;
  readonly container: string;
  readonly id: string;
  readonly image: string;
}

/** One metric of one owner, as it is now (a timestamp of 0); nothing where the value is not known. */
export type Emit = (name: MetricName, value: number | bigint | undefined, ...more: readonly string[]) => void;

/** Collects what is emitted, for one owner. */
export function metricCollector({ pod, namespace, container, id, image }: MetricOwner): { readonly metrics: Metric[]; readonly emit: Emit } {
  const metrics: Metric[] = [];
  const own = [pod, namespace, container, id, image];
  return {
    metrics,
    emit: (name, value, ...more) => {
      if (value === undefined) return;
      metrics.push({ name, timestamp: 0n, metricType: families[name].type, labelValues: more.length === 0 ? own : [...own, ...more], value: { value: BigInt(value) } });
    },
  };
}
