/** A stock kubelet whose CRI server is killed and started again under it: the pods must not notice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { startKubelet } from '../harness/kubelet.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { needs } from '../harness/tools.ts';

interface Pod {
  metadata: { uid: string };
  status: { podIP?: string; conditions: { type: string; status: string }[]; containerStatuses?: { restartCount: number; containerID: string }[] };
}

const probe = { exec: { command: ['sh', '-c', 'echo >> /probed && test -e /healthy'] }, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 5 };
const pod = {
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'probed' },
  spec: {
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image: busyboxImage, command: ['sh', '-c', 'touch /healthy; sleep 100000'], readinessProbe: probe, livenessProbe: probe }],
  },
};

test('a stock kubelet probes its pods by exec, and a kill -9 of our CRI server disturbs neither', needs('root', 'bundle', 'cri', 'conmon', 'cluster', 'kubelet'), () => nothingLeft(async () => {
  await using registry = await testRegistry();
  await using cluster = await testCluster();
  await using cri = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts });
  await using _ = await startKubelet({ cluster, criSocket: cri.socket });
  const { kubectl } = cluster;
  const isReady = ({ status }: Pod): boolean => status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True');
  const look = (): Promise<Pod> => kubectl.json<Pod>(['get', 'pod', 'probed']);
  const probes = async (): Promise<number> => Number((await kubectl.output(['exec', 'probed', '--', 'sh', '-c', 'wc -l < /probed'])).stdout.trim());
  await kubectl.apply(pod);
  const before = await eventually('the probed pod is ready', look, isReady);
  await cri.kill();
  await cri.start();
  const soFar = await eventually('kubectl exec works again', probes, (count) => count > 0);
  await eventually('probes go on', probes, (count) => count > soFar);
  const after = await eventually('the pod is ready', look, isReady);
  const facts = ({ metadata, status }: Pod): unknown => [metadata.uid, status.podIP, status.containerStatuses?.map(({ restartCount, containerID }) => [restartCount, containerID])];
  assert.deepEqual(facts(after), facts(before));
  await kubectl.run(['exec', 'probed', '--', 'rm', '/healthy']);
  await eventually('a probe that fails is seen', look, (now) => !isReady(now));
  await kubectl.run(['delete', 'pod', 'probed', '--timeout', '100s']);
}));
