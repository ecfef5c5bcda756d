/**
 * What a kubelet can be fed by the CRI instead of finding out itself: container events, lists as streams, statistics and metrics. The stock
 * kubelet with the feature gates for all of them is the judge.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { testCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { startKubelet } from '../harness/kubelet.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { testRegistry } from '../harness/registry.ts';
import { needs } from '../harness/tools.ts';

interface Usage { cpu?: { usageCoreNanoSeconds?: number }; memory?: { workingSetBytes?: number } }
interface Summary { pods: (Usage & { podRef: { name: string }; network?: { name: string; rxBytes: number }; containers: (Usage & { name: string; rootfs?: { usedBytes?: number } })[] })[] }

const featureGates = { EventedPLEG: true, CRIListStreaming: true, PodAndContainerStatsFromCRI: true };

test('a stock kubelet takes events, streamed lists, statistics and metrics from the server', needs('root', 'bundle', 'cri', 'conmon', 'cluster', 'kubelet'), () => nothingLeft(async () => {
  await using registry = await testRegistry();
  await using cluster = await testCluster();
  await using cri = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts });
  await using kubelet = await startKubelet({ cluster, criSocket: cri.socket, config: { featureGates } });
  const { kubectl } = cluster;
  const raw = (what: string): Promise<string> => kubectl.run(['get', '--raw', `/api/v1/nodes/${kubelet.nodeName}/proxy/${what}`]);
  const sample = async (head: string): Promise<number> =>
    Number((await raw('metrics')).split('\n').find((line) => line.startsWith(`${head} `))?.slice(head.length + 1) ?? Number.NaN);

  await kubectl.run(['apply', '-f', path.join(import.meta.dirname, '../../manifests/pods/hello.yaml')]);
  await eventually('the pod runs', () => kubectl.run(['get', 'pod', 'hello', '-o', 'jsonpath={.status.phase}']), (phase) => phase === 'Running');

  const { pods } = await eventually('the summary has the pod', async () => JSON.parse(await raw('stats/summary')) as Summary, (seen) =>
    (seen.pods.find(({ podRef }) => podRef.name === 'hello')?.cpu?.usageCoreNanoSeconds ?? 0) > 0);
  const pod = pods.find(({ podRef }) => podRef.name === 'hello');
  assert.ok((pod?.memory?.workingSetBytes ?? 0) > 0 && (pod?.network?.rxBytes ?? -1) >= 0, JSON.stringify(pod));
  assert.equal(pod?.network?.name, 'eth0');
  assert.ok((pod?.containers[0]?.memory?.workingSetBytes ?? 0) > 0 && pod?.containers[0]?.rootfs?.usedBytes !== undefined, JSON.stringify(pod?.containers));

  const cadvisor = await raw('metrics/cadvisor');
  for (const name of ['container_cpu_usage_seconds_total', 'container_memory_working_set_bytes', 'container_fs_usage_bytes', 'container_processes', 'container_spec_memory_limit_bytes']) {
    assert.match(cadvisor, new RegExp(`^${name}\\{container="[a-z]+",.*namespace="default",pod="hello".*\\} \\d`, 'm'));
  }
  assert.match(cadvisor, /^container_network_receive_bytes_total\{.*interface="eth0".*pod="hello".*\} \d/m);

  const relists = await sample('kubelet_evented_pleg_connection_success_count');
  assert.ok(relists >= 1, `event streams opened: ${relists}`);
  const before = await sample('kubelet_evented_pleg_connection_latency_seconds_count');
  await kubectl.run(['delete', 'pod', 'hello', '--timeout', '100s']);
  assert.ok(await sample('kubelet_evented_pleg_connection_latency_seconds_count') > before, 'events came while the pod ended');
  assert.equal(await sample('kubelet_evented_pleg_connection_error_count'), 0);

  const calls = await readFile(cri.logFile, 'utf8');
  for (const rpc of ['StreamPodSandboxes', 'StreamContainers', 'StreamImages', 'StreamPodSandboxStats', 'StreamPodSandboxMetrics']) assert.ok(calls.includes(`"rpc":"${rpc}"`), `${rpc} was called`);
  for (const rpc of ['ListPodSandbox', 'ListContainers', 'ListPodSandboxStats']) assert.ok(!calls.includes(`"rpc":"${rpc}"`), `${rpc} was not needed`);
}));
