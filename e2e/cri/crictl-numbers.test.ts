/** crictl: statistics, metrics and events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroupParent, onHostNetwork, ownGroup, runContainer, withCri } from '../harness/crictl-walk.ts';
import { criNeeds, type CriServer } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import type { Background, Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const here = needs(...criNeeds());

interface Value { value: string }
interface Cpu { usageCoreNanoSeconds: Value; usageNanoCores?: Value }
interface Memory { workingSetBytes: Value; usageBytes: Value; rssBytes: Value; pageFaults: Value; availableBytes: Value }
interface ContainerStats { attributes: { id: string; labels: object }; cpu: Cpu; memory: Memory; writableLayer: { usedBytes: Value; inodesUsed: Value; fsId: { mountpoint: string } } }
interface PodStats {
  attributes: { id: string };
  linux: { cpu: Cpu; memory: Memory; network: { defaultInterface: { name: string; rxBytes: Value; txBytes: Value } }; process: { processCount: Value }; containers: ContainerStats[] };
}
interface Metric { name: string; labelValues: string[]; value: Value }
interface PodMetrics { podMetrics: { podSandboxId: string; metrics: Metric[]; containerMetrics: { containerId: string; metrics: Metric[] }[] }[] }

const number = (value: Value | undefined): number => Number(value?.value ?? Number.NaN);
const MiB = 1 << 20;

/** 16 MiB of anonymous memory, 3 MB in a file, two processes, an open socket, processor time; sends to its own address so that nothing else is needed. */
const busy = 'x=$(head -c 16777216 /dev/zero | tr "\\0" x); dd if=/dev/zero of=/written bs=1000000 count=3 2>&-; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo ready; nc -l -p 9000; echo "${#x}"';

test('stats, statsp, metricsp and imagefsinfo count what a container does, by the labels that metricdescs names', here, () => withCri(async (crictl, cri) => {
  const { pod, id } = await runContainer(crictl, cri, {
    name: 'busy', command: ['sh', '-c', busy], pod: ownGroup(cri),
    container: { linux: { resources: { memory_limit_in_bytes: 64 * MiB, cpu_period: 100_000, cpu_quota: 90_000, cpu_shares: 512 } } },
  });
  await eventually('it is busy', () => crictl.run(['logs', id]), (text) => text.includes('ready'));
  await checkStats(crictl, cri, { pod, id });
  await checkMetrics(crictl, { pod, id });
  const { status } = await eventually('the image file system is used (containerd counts every ten seconds)', () =>
    crictl.json<{ status: { imageFilesystems: { usedBytes: Value; inodesUsed: Value; fsId: { mountpoint: string } }[] } }>(['imagefsinfo']), (seen) => number(seen.status.imageFilesystems[0]?.usedBytes) > 0);
  assert.ok(number(status.imageFilesystems[0]?.inodesUsed) > 0);
  assert.match(status.imageFilesystems[0]?.fsId.mountpoint ?? '', /^\//);
  assert.match(await crictl.run(['stats']), new RegExp(`${id.slice(0, 13)} .*busy`));
  assert.match(await crictl.run(['statsp']), new RegExp(`busy .*${pod.slice(0, 13)} `));
}));

async function checkStats(crictl: Crictl, cri: CriServer, { pod, id }: { pod: string; id: string }): Promise<void> {
  const written = 3_000_000;
  const { stats } = await eventually('the writable layer is counted (containerd looks every ten seconds)', () => crictl.json<{ stats: ContainerStats[] }>(['stats', '--id', id]), (seen) =>
    number(seen.stats[0]?.writableLayer.usedBytes) >= written);
  const [container] = stats;
  assert.equal(container?.attributes.id, id);
  assert.ok(number(container.writableLayer.usedBytes) < written + MiB && number(container.writableLayer.inodesUsed) >= 1);
  const { cpu, memory } = container;
  assert.ok(number(cpu.usageCoreNanoSeconds) > 10_000_000, `cpu ${number(cpu.usageCoreNanoSeconds)}`);
  assert.ok(number(memory.rssBytes) > 15 * MiB && number(memory.workingSetBytes) > 15 * MiB && number(memory.workingSetBytes) <= 64 * MiB, JSON.stringify(memory));
  assert.equal(number(memory.availableBytes), 64 * MiB - number(memory.workingSetBytes));
  assert.ok(number(memory.pageFaults) > 4000 && number(memory.usageBytes) >= number(memory.workingSetBytes));
  assert.deepEqual((await crictl.json<{ stats: ContainerStats[] }>(['stats', '--label', 'part=none'])).stats, []);

  const { stats: pods } = await crictl.json<{ stats: PodStats[] }>(['statsp', '--id', pod]);
  const linux = pods[0]?.linux;
  assert.deepEqual(linux?.containers.map(({ attributes }) => attributes.id), [id]);
  assert.equal(linux?.network.defaultInterface.name, 'eth0');
  assert.ok(number(linux?.network.defaultInterface.txBytes) > 0 && number(linux?.cpu.usageCoreNanoSeconds) > 10_000_000);
  assert.ok(number(linux?.memory.workingSetBytes) > 15 * MiB, `below ${cgroupParent(cri)}`);
  assert.ok(number(linux?.process.processCount) >= 2);
}

async function checkMetrics(crictl: Crictl, { pod, id }: { pod: string; id: string }): Promise<void> {
  const { descriptors } = await crictl.json<{ descriptors: { name: string; help: string; labelKeys: string[] }[] }>(['metricdescs']);
  const { podMetrics } = await crictl.json<PodMetrics>(['metricsp']);
  const mine = podMetrics.find(({ podSandboxId }) => podSandboxId === pod);
  const ofContainer = mine?.containerMetrics.find(({ containerId }) => containerId === id)?.metrics ?? [];
  const labelKeys = new Map(descriptors.map((each) => [each.name, each.labelKeys]));
  const labelsOf = ({ name, labelValues }: Metric): Record<string, string> => Object.fromEntries((labelKeys.get(name) ?? []).map((key, index) => [key, labelValues[index] ?? '']));
  for (const metric of [...ofContainer, ...(mine?.metrics ?? [])]) assert.equal(metric.labelValues.length, labelKeys.get(metric.name)?.length, metric.name);
  const find = (metrics: readonly Metric[], name: string, labels: Record<string, string> = {}): number =>
    number(metrics.find((each) => each.name === name && Object.entries(labels).every(([key, value]) => labelsOf(each)[key] === value))?.value);
  const own = { namespace: 'e2e', container: 'busy' };
  const between: [string, number, number, Record<string, string>?][] = [
    ['container_memory_rss', 15 * MiB, 64 * MiB], ['container_memory_working_set_bytes', 15 * MiB, 64 * MiB], ['container_memory_max_usage_bytes', 16 * MiB, 64 * MiB],
    ['container_memory_failures_total', 4000, 1e9, { failure_type: 'pgfault', scope: 'container' }],
    ['container_spec_memory_limit_bytes', 64 * MiB, 64 * MiB], ['container_spec_cpu_period', 100_000, 100_000], ['container_spec_cpu_shares', 512, 512],
    ['container_cpu_cfs_periods_total', 1, 1e9], ['container_processes', 2, 10], ['container_threads', 2, 10], ['container_file_descriptors', 3, 100], ['container_sockets', 1, 10],
    ['container_oom_events_total', 0, 0], ['container_fs_usage_bytes', 3_000_000, 3_000_000 + MiB], ['container_start_time_seconds', Date.now() / 1000 - 600, Date.now() / 1000 + 1],
  ];
  for (const [name, least, most, labels = {}] of between) {
    const value = find(ofContainer, name, { ...own, ...labels });
    assert.ok(value >= least && value <= most, `${name} is ${value}, not ${least} to ${most}`);
  }
  const received = find(mine?.metrics ?? [], 'container_network_transmit_bytes_total', { pod: 'busy', interface: 'eth0' });
  assert.ok(received > 0, `transmitted ${received}`);
}

/** What has been told so far, as `TYPE id`. */
const told = ({ said }: Background): string[] =>
  [...said.matchAll(/"containerId": "(\w+)",\s+"containerEventType": "CONTAINER_(\w+)_EVENT"/g)].map(([, id = '', type = '']) => `${type} ${id}`);

test('events tell the life of pods and containers, with the statuses of the whole pod', here, () => withCri(async (crictl, cri) => {
  await using events = crictl.start(['events']);
  const { pod, id } = await runContainer(crictl, cri, { name: 'told', command: ['sleep', '1000'], pod: onHostNetwork });
  await events.says(new RegExp(`"containerId": "${id}",\\s+"containerEventType": "CONTAINER_STARTED_EVENT"`));
  await crictl.run(['stop', id]);
  await crictl.run(['rm', id]);
  await crictl.run(['rmp', '-f', pod]);
  await events.says(new RegExp(`"containerId": "${pod}",\\s+"containerEventType": "CONTAINER_DELETED_EVENT"`));
  const all = told(events);
  const life = (of: string): string[] => all.filter((each) => each.endsWith(of)).map((each) => each.split(' ')[0] ?? '');
  assert.deepEqual(life(id), ['CREATED', 'STARTED', 'STOPPED', 'DELETED']);
  assert.deepEqual(life(pod), ['CREATED', 'STARTED', 'STOPPED', 'DELETED']);
  const started = JSON.parse(/\{\n {2}"containerId": "\w+",\n {2}"containerEventType": "CONTAINER_STOPPED_EVENT",[^]*?\n\}/.exec(events.said)?.[0] ?? '{}') as {
    podSandboxStatus: { id: string; metadata: { uid: string } }; containersStatuses: { id: string; state: string; exitCode: number }[];
  };
  assert.deepEqual([started.podSandboxStatus.id, started.podSandboxStatus.metadata.uid], [pod, 'told-uid']);
  assert.deepEqual(started.containersStatuses.map((each) => [each.id, each.state, each.exitCode]), [[id, 'CONTAINER_EXITED', 137]]);
}));

test('an end that came while the server was away is told to whoever listens when it is back', here, (t) => withCri(async (crictl, cri) => {
  if (cri.name === 'containerd') return t.skip('containerd tells only what it sees happen');
  const { id } = await runContainer(crictl, cri, { name: 'away', command: ['sleep', '1000'], pod: onHostNetwork });
  const { info } = await crictl.json<{ info: { pid: number } }>(['inspect', id]);
  await cri.kill();
  process.kill(info.pid, 'SIGKILL');
  await cri.start();
  await using events = crictl.start(['events']);
  await events.says(new RegExp(`"containerId": "${id}",\\s+"containerEventType": "CONTAINER_STOPPED_EVENT"`));
}));
