/** A node of a real cluster, seen by those who look at nodes: the control plane, kubectl, and strangers at port 10250. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { test } from 'node:test';
import { startCluster } from '../../hack/cluster/control-plane.ts';
import { testCluster, type TestCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { hostAddress } from '../harness/private.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { needs } from '../harness/tools.ts';

interface World { readonly cluster: TestCluster; readonly node: Nodelet }
interface Condition { type: string; status: string; reason: string; message: string }
interface Node {
  metadata: { uid: string; labels: Record<string, string> };
  spec: { podCIDR?: string };
  status: { conditions: Condition[]; addresses: { type: string; address: string }[]; nodeInfo: Record<string, string>; capacity: Record<string, string>; allocatable: Record<string, string> };
}
interface Pod { metadata: { uid: string }; status: { phase: string; podIP?: string; containerStatuses?: { restartCount: number; state: Record<string, { reason?: string }> }[] } }
interface Events { items: { reason: string; type: string; message: string; count: number; source: { component: string; host: string }; involvedObject: { fieldPath?: string } }[] }

/** Of an API server without an offset. */
const usualPort = 6443;

const wanted = needs('root', 'bundle', 'cri', 'conmon', 'cluster');

async function withNode(body: (world: World) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using cluster = await testCluster();
    await using node = await startNodelet({ mode: 'run', cluster, writeHosts: registry.writeHosts });
    await body({ cluster, node });
  });
}

const readyOf = (node: Node): Condition | undefined => node.status.conditions.find(({ type }) => type === 'Ready');
const nodeReady = ({ cluster, node }: World): Promise<Node> =>
  eventually('the node is ready', () => cluster.kubectl.json<Node>(['get', 'node', node.nodeName]), (seen) => readyOf(seen)?.status === 'True');
const running = ({ cluster }: World, name: string): Promise<Pod> =>
  eventually(`pod ${name} runs`, () => cluster.kubectl.json<Pod>(['get', 'pod', name]), ({ status }) => status.phase === 'Running');

const pod = (name: string, script: string, spec: object = {}, container: object = {}): object => ({
  apiVersion: 'v1', kind: 'Pod', metadata: { name },
  spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'main', image: busyboxImage, command: ['sh', '-c', script], ...container }], ...spec },
});

/** A request to the node itself, as who holds the certificate in a kubeconfig (none: a stranger). */
async function ask(node: Nodelet, path: string, credentials: { cert?: string; key?: string; token?: string } = {}): Promise<{ status: number | undefined; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; text: string }>();
  const { token, ...tls } = credentials;
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  request({ host: hostAddress(), port: node.port, path, rejectUnauthorized: false, agent: false, headers, ...tls }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (piece: string) => (text += piece)).on('end', () => resolve({ status: response.statusCode, text })).on('error', reject);
  }).on('error', reject).end();
  return promise;
}

test('a node registers, becomes ready, keeps its lease, and registers again when it was deleted', wanted, () => withNode(async (world) => {
  const { cluster: { kubectl }, node: { nodeName, port } } = world;
  const node = await nodeReady(world);
  assert.equal(readyOf(node)?.message, 'kubelet is posting ready status');
  assert.equal(node.metadata.labels['kubernetes.io/hostname'], nodeName);
  assert.equal(node.metadata.labels['kubernetes.io/os'], 'linux');
  assert.match(node.status.nodeInfo['kubeletVersion'] ?? '', /^v1\.37\./);
  assert.match(node.status.nodeInfo['containerRuntimeVersion'] ?? '', /^nodelet:\/\/\d/);
  assert.deepEqual(node.status.addresses.find(({ type }) => type === 'InternalIP'), { type: 'InternalIP', address: hostAddress() });
  assert.ok(Number.parseInt(node.status.allocatable['memory'] ?? '0') < Number.parseInt(node.status.capacity['memory'] ?? '0'));
  const lease = async (): Promise<string> => (await kubectl.json<{ spec: { renewTime: string } }>(['get', 'lease', '-n', 'kube-node-lease', nodeName])).spec.renewTime;
  const first = await eventually('there is a lease', lease);
  await eventually('the lease is renewed', lease, (renewed) => renewed > first);
  const events = await eventually('events about the node', () => kubectl.json<Events>(['get', 'events', '--field-selector', `involvedObject.name=${nodeName},source=kubelet`]), ({ items }) => items.some(({ reason }) => reason === 'NodeReady'));
  assert.ok(events.items.some(({ reason, message, source }) => reason === 'Starting' && message === 'Starting kubelet.' && source.host === nodeName));
  const { port: named } = await kubectl.json<{ status: { daemonEndpoints: { kubeletEndpoint: { Port: number } } } }>(['get', 'node', nodeName]).then((seen) => ({ port: seen.status.daemonEndpoints.kubeletEndpoint.Port }));
  assert.equal(named, port);
  await kubectl.run(['delete', 'node', nodeName]);
  await eventually('the node is back', () => kubectl.json<Node>(['get', 'node', nodeName]), (seen) => seen.metadata.uid !== node.metadata.uid && readyOf(seen)?.status === 'True');
}));

test('strangers get 401, the unauthorised 403, the control plane and those with rights get answers', wanted, () => withNode(async (world) => {
  const { cluster, node } = world;
  const { kubectl } = cluster;
  await nodeReady(world);
  for (const path of ['/pods', '/healthz', '/configz', '/containerLogs/default/x/y', '/exec/default/x/y?command=sh', '/nowhere']) {
    assert.deepEqual(await ask(node, path), { status: 401, text: 'Unauthorized' }, path);
    assert.deepEqual(await ask(node, path, { token: 'made.up' }), { status: 401, text: 'Unauthorized' }, `${path} with a token`);
  }
  const pki = `${cluster.dir}/pki`;
  const read = (name: string): Promise<string> => readFile(`${pki}/${name}`, 'utf8');
  const apiServer = { cert: await read('apiserver-kubelet-client.crt'), key: await read('apiserver-kubelet-client.key') };
  assert.deepEqual(await ask(node, '/healthz', apiServer), { status: 200, text: 'ok' });
  const frontProxy = { cert: await read('front-proxy-client.crt'), key: await read('front-proxy-client.key') };
  assert.equal((await ask(node, '/healthz', frontProxy)).status, 401, 'a certificate of another authority of the same cluster');
  await kubectl.run(['create', 'serviceaccount', 'reader']);
  const token = (await kubectl.run(['create', 'token', 'reader'])).trim();
  assert.deepEqual(await ask(node, '/pods', { token }), {
    status: 403, text: 'Forbidden (user=system:serviceaccount:default:reader, verb=get, resource=nodes, subresource(s)=[pods proxy])\n',
  });
  await kubectl.run(['create', 'clusterrole', 'health', '--verb=get', '--resource=nodes/healthz']);
  await kubectl.run(['create', 'clusterrolebinding', 'health', '--clusterrole=health', '--serviceaccount=default:reader']);
  await eventually('a fine-grained right counts', () => ask(node, '/healthz', { token }), ({ status }) => status === 200);
  assert.equal(await kubectl.run(['get', '--raw', `/api/v1/nodes/${node.nodeName}/proxy/healthz`]), 'ok');
  const pods = JSON.parse(await kubectl.run(['get', '--raw', `/api/v1/nodes/${node.nodeName}/proxy/pods`])) as { kind: string };
  assert.equal(pods.kind, 'PodList');
}));

test('logs: all, the tail, since, timestamps, followed to the end, and of the container before', wanted, () => withNode(async (world) => {
  const { cluster } = world;
  const { kubectl } = cluster;
  await nodeReady(world);
  await kubectl.apply([
    pod('talk', 'for i in 1 2 3 4 5; do echo line $i; done; echo to stderr >&2; sleep 3600'),
    pod('count', 'for i in 1 2 3 4 5; do echo $i; sleep 0.3; done', { restartPolicy: 'Never' }),
    pod('again', 'echo run of $$ at $(cat /proc/uptime); sleep 2; exit 3'),
  ]);
  await running(world, 'talk');
  const all = await eventually('the log is written', () => kubectl.run(['logs', 'talk']), (text) => text.includes('to stderr'));
  assert.deepEqual(all.split('\n').toSorted(), ['', 'line 1', 'line 2', 'line 3', 'line 4', 'line 5', 'to stderr']);
  assert.equal((await kubectl.run(['logs', 'talk', '--tail=2'])).trimEnd().split('\n').length, 2);
  assert.equal(await kubectl.run(['logs', 'talk', '--tail=0']), '');
  assert.match(await kubectl.run(['logs', 'talk', '--timestamps', '--limit-bytes=40']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line/);
  assert.equal(await kubectl.run(['logs', 'talk', '--since=1h']), all);
  const missing = await kubectl.output(['logs', 'talk', '--previous']);
  assert.match(missing.stderr, /previous terminated container "main" in pod "talk" not found/);
  await eventually('the counting pod has begun', () => kubectl.run(['logs', 'count']));
  assert.equal(await kubectl.run(['logs', '-f', 'count']), '1\n2\n3\n4\n5\n', 'following ends when the container does');
  await eventually('it runs again', () => kubectl.json<Pod>(['get', 'pod', 'again']), ({ status }) => (status.containerStatuses?.[0]?.restartCount ?? 0) === 1);
  const events = await eventually('its events', () => kubectl.json<Events>(['get', 'events', '--field-selector', 'involvedObject.name=again']), ({ items }) => items.some(({ reason, count }) => reason === 'Started' && count >= 2) || items.filter(({ reason }) => reason === 'Started').length >= 2);
  assert.ok(events.items.every(({ source }) => source.component !== 'kubelet' || source.host === world.node.nodeName));
  assert.ok(events.items.some(({ reason, involvedObject }) => reason === 'Created' && involvedObject.fieldPath === 'spec.containers{main}'));
  const uptime = (text: string): number => Number(/at ([\d.]+) /.exec(text)?.[1]);
  const before = uptime(await kubectl.run(['logs', 'again', '--previous']));
  const now = await eventually('the run after it speaks', () => kubectl.run(['logs', 'again']));
  assert.ok(before < uptime(now), 'the run before was before');
  await kubectl.run(['delete', 'pod', 'talk', 'count', 'again', '--wait', '--timeout=60s']);
}));

test('what a pod mounts follows the API: ConfigMap, Secret, token, downward API; a missing one holds the pod back and says so', wanted, () => withNode(async (world) => {
  const { cluster: { kubectl } } = world;
  await nodeReady(world);
  const volumes = [
    { name: 'cm', configMap: { name: 'settings' } },
    { name: 'sec', secret: { secretName: 'pass', defaultMode: 0o400 } },
    { name: 'info', downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
    { name: 'ram', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
  ];
  const volumeMounts = volumes.map(({ name }) => ({ name, mountPath: `/v/${name}` }));
  const script = 'cat /v/cm/key /v/sec/word; stat -c %a /v/sec/..data/word; mount | grep -c "/v/ram type tmpfs"; cut -d. -f1 /var/run/secrets/kubernetes.io/serviceaccount/token | wc -l; ' +
    'until [ "$(cat /v/cm/key)" = v2 ]; do sleep 0.2; done; echo changed; sleep 3600';
  await kubectl.apply(pod('mounts', script, { volumes }, { volumeMounts }));
  await eventually('it waits for its ConfigMap', () => kubectl.json<Events>(['get', 'events', '--field-selector', 'involvedObject.name=mounts']), ({ items }) => items.some(({ reason, message }) => reason === 'FailedMount' && message.includes('configmap "settings" not found')));
  const waiting = await kubectl.json<Pod>(['get', 'pod', 'mounts']);
  assert.deepEqual([waiting.status.phase, waiting.status.containerStatuses?.[0]?.state['waiting']?.reason], ['Pending', 'ContainerCreating']);
  await kubectl.run(['create', 'configmap', 'settings', '--from-literal=key=v1']);
  await kubectl.run(['create', 'secret', 'generic', 'pass', '--from-literal=word=s3']);
  await running(world, 'mounts');
  const text = await eventually('it has read its files', () => kubectl.run(['logs', 'mounts']), (seen) => seen.split('\n').length > 3);
  assert.equal(text, 'v1s3400\n1\n1\n');
  await kubectl.run(['patch', 'configmap', 'settings', '-p', '{"data":{"key":"v2"}}']);
  await eventually('the change reaches the running pod', () => kubectl.run(['logs', 'mounts']), (seen) => seen.includes('changed'));
  await kubectl.run(['delete', 'pod', 'mounts', '--wait', '--timeout=60s']);
}));

test('a control plane that goes away and comes back finds the node and its pods as they were', wanted, () => withNode(async (world) => {
  const { cluster, node } = world;
  await nodeReady(world);
  await cluster.kubectl.apply(pod('steady', 'sleep 3600'));
  const before = await running(world, 'steady');
  await cluster.stop();
  await startCluster({ dir: cluster.dir, portOffset: Number(new URL(cluster.server).port) - usualPort, ephemeral: true });
  const after = await eventually('the pod is still there', () => cluster.kubectl.json<Pod>(['get', 'pod', 'steady']), ({ status }) => status.phase === 'Running');
  assert.deepEqual([after.metadata.uid, after.status.podIP, after.status.containerStatuses?.[0]?.restartCount], [before.metadata.uid, before.status.podIP, 0]);
  await cluster.kubectl.apply(pod('later', 'sleep 3600'));
  await running(world, 'later');
  assert.ok(node.pid !== undefined, 'the daemon runs on');
  await cluster.kubectl.run(['delete', 'pod', 'steady', 'later', '--wait', '--timeout=60s']);
}));
