/** Static pods of a node of a cluster: shown by mirror pods, which are only for looking. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { testCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { needs } from '../harness/tools.ts';

interface Mirror {
  metadata: { uid: string; annotations: Record<string, string>; ownerReferences: { kind: string; name: string }[] };
  status: { phase: string; podIP?: string; containerStatuses?: { containerID: string; restartCount: number }[] };
}

test('a static pod is seen in its cluster, cannot be deleted there, and goes with its file', needs('root', 'bundle', 'cri', 'conmon', 'cluster'), () => nothingLeft(async () => {
  await using registry = await testRegistry();
  await using cluster = await testCluster();
  await using node = await startNodelet({ mode: 'run', cluster, writeHosts: registry.writeHosts });
  const { kubectl } = cluster;
  const name = `seen-${node.nodeName}`;
  const file = path.join(node.podsDir, 'seen.yaml');
  const manifest = (text: string): string => JSON.stringify({
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'seen' },
    spec: { terminationGracePeriodSeconds: 2, containers: [{ name: 'c', image: busyboxImage, command: ['sh', '-c', `echo ${text}; trap "exit 0" TERM; while true; do sleep 0.1; done`] }] },
  });
  const mirror = (accept: (pod: Mirror) => boolean): Promise<Mirror> => eventually('the mirror', () => kubectl.json<Mirror>(['get', 'pod', name]), accept);
  const isUp = ({ status }: Mirror): boolean => status.phase === 'Running' && status.podIP !== undefined;
  const idOf = ({ status }: Mirror): string | undefined => status.containerStatuses?.[0]?.containerID;

  await writeFile(file, manifest('one'));
  const first = await mirror(isUp);
  assert.equal(first.metadata.annotations['kubernetes.io/config.mirror'], first.metadata.annotations['kubernetes.io/config.hash']);
  assert.deepEqual(first.metadata.ownerReferences.map(({ kind, name: owner }) => [kind, owner]), [['Node', node.nodeName]]);
  assert.equal(await eventually('its log', () => kubectl.run(['logs', name])), 'one\n');

  await kubectl.run(['delete', 'pod', name, '--grace-period=0', '--force']);
  const again = await mirror((pod) => pod.metadata.uid !== first.metadata.uid && isUp(pod));
  assert.equal(idOf(again), idOf(first), 'its container was left alone');

  await kubectl.run(['delete', 'pod', name, '--wait=false']);
  const third = await mirror((pod) => pod.metadata.uid !== again.metadata.uid && isUp(pod));
  assert.equal(idOf(third), idOf(first));

  await writeFile(file, manifest('two'));
  await mirror((pod) => isUp(pod) && idOf(pod) !== idOf(first));
  assert.equal(await eventually('the log of the new one', () => kubectl.run(['logs', name])), 'two\n');

  await rm(file);
  await eventually('the mirror is gone', async () => (await kubectl.output(['get', 'pod', name])).stderr, (text) => text.includes('not found'));
}));
