/** Which metrics are announced, and that what is emitted was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MetricType } from '#cri-api';
import { containerMetrics, podMetrics } from './container-metrics.ts';
import { metricDescriptors } from './metric-families.ts';

const owner = { pod: 'p', namespace: 'n', container: 'c', id: 'i', image: 'busybox' };
const line = { avg10: 0, avg60: 0, avg300: 0, totalUs: 2_500_000n };
const pressure = { some: line, full: line };
const numbers = {
  startedAtNs: 5_900_000_000n, nowNs: 9_000_000_000n, processes: 2, open: { descriptors: 7, sockets: 1 }, openFilesLimit: 1024, resources: undefined, oomKills: 1,
  cpu: { usageNs: 3_999_999_999n },
  cpuTimes: { userNs: 2_000_000_000n, systemNs: 0n, periods: 5, throttledPeriods: 1, throttledNs: 0n },
  memory: {
    usageBytes: 50, workingSetBytes: 40, rssBytes: 30, cacheBytes: 20, mappedFileBytes: 10, activeFileBytes: 5, inactiveFileBytes: 10,
    pageFaults: 9, majorPageFaults: 1, ownPageFaults: 8, ownMajorPageFaults: 1, limitBytes: undefined, swap: { usageBytes: 3, limitBytes: undefined },
  },
  history: { peakBytes: 60, limitHits: 4, kernelBytes: 2 },
  io: [{ device: '254:0', name: '/dev/vda', readBytes: 1, writeBytes: 2, reads: 3, writes: 4 }],
  hugepages: [{ pageSize: '2MB', usageBytes: 0, peakBytes: 2_097_152 }],
  pressure: { cpu: pressure, memory: pressure, io: pressure },
  pids: { current: 3, limit: undefined },
  disk: { usedBytes: 1, device: '/dev/vda', totalBytes: 100, totalInodes: 10, freeInodes: 5 },
};
const networkCounters = { name: 'eth0', rxBytes: 1n, rxPackets: 2n, rxErrors: 0n, rxDropped: 0n, txBytes: 3n, txPackets: 4n, txErrors: 0n, txDropped: 0n };
const everything = metricDescriptors({ version: 1, hasPressure: true, controllers: new Set(['hugetlb']) });

test('every metric has the label keys that were announced for it, and on a machine with everything all but those of unset limits are there', () => {
  const metrics = [...containerMetrics(owner, numbers), ...podMetrics({ ...owner, container: '', image: '' }, [networkCounters])];
  const keys = new Map(everything.map(({ name, labelKeys }) => [name, labelKeys]));
  for (const { name, labelValues } of metrics) assert.equal(labelValues.length, keys.get(name)?.length, name);
  const missing = [...keys.keys()].filter((name) => !metrics.some((metric) => metric.name === name));
  assert.deepEqual(missing, ['container_spec_cpu_period', 'container_spec_cpu_quota', 'container_spec_cpu_shares']);
  assert.ok(everything.every(({ help }) => help !== ''));
});

test('seconds are whole, no limit is zero, and what is a counter is called so', () => {
  const metrics = containerMetrics(owner, numbers);
  const find = (name: string): (typeof metrics)[number] | undefined => metrics.find((each) => each.name === name);
  assert.deepEqual(
    ['container_cpu_usage_seconds_total', 'container_start_time_seconds', 'container_pressure_io_stalled_seconds_total', 'container_threads_max', 'container_spec_memory_limit_bytes'].map((name) => find(name)?.value?.value),
    [3n, 5n, 2n, 0n, 0n],
  );
  assert.deepEqual([find('container_cpu_usage_seconds_total')?.metricType, find('container_memory_rss')?.metricType], [MetricType.COUNTER, MetricType.GAUGE]);
});

test('nothing is announced that this machine cannot tell', () => {
  const names = (machine: Parameters<typeof metricDescriptors>[0]): string[] => metricDescriptors(machine).map(({ name }) => name);
  assert.deepEqual(names({ version: 2, hasPressure: false, controllers: new Set() }).filter((name) => /pressure|hugetlb/.test(name)), []);
  assert.deepEqual(names({ version: 2, hasPressure: false, controllers: new Set(['hugetlb']) }).filter((name) => name.includes('hugetlb')), ['container_hugetlb_usage_bytes']);
});
