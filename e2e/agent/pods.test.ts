/**
 * The example pods of manifests/pods on a real control plane, from apply to gone, as a user sees them with kubectl. Three nodes run the same
 * tests: ours, our agent on containerd, and the stock kubelet on our CRI server.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { testCluster, type TestCluster } from '../harness/cluster.ts';
import { startContainerd } from '../harness/containerd.ts';
import { eventually } from '../harness/eventually.ts';
import { startKubelet } from '../harness/kubelet.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { testRegistry, type TestRegistry } from '../harness/registry.ts';
import type { Kubectl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';
import { streams } from './pod-streams.ts';

interface ContainerStatus {
  name: string; ready: boolean; restartCount: number; containerID: string;
  state: { waiting?: { reason: string; message?: string }; running?: object; terminated?: { exitCode: number; reason: string } };
  lastState: { terminated?: { exitCode: number; reason: string; message?: string } };
}
interface Pod {
  metadata: { uid: string; generation: number };
  spec: { nodeName?: string };
  status: { phase: string; podIP?: string; qosClass: string; reason?: string; observedGeneration?: number; containerStatuses?: ContainerStatus[]; initContainerStatuses?: ContainerStatus[]; conditions: { type: string; status: string }[] };
}
interface Events { items: { reason: string; type: string; message: string }[] }

const manifests = path.join(import.meta.dirname, '../../manifests/pods');

/** What one test sees: kubectl and a control plane with one node. */
interface Stage { readonly cluster: TestCluster; readonly kubectl: Kubectl }
type StartNode = (stage: { cluster: TestCluster; registry: TestRegistry }) => Promise<AsyncDisposable>;

async function apply({ kubectl }: Stage, name: string): Promise<void> {
  await kubectl.run(['apply', '-f', path.join(manifests, `${name}.yaml`)]);
}
const seen = ({ kubectl }: Stage, name: string): Promise<Pod> => kubectl.json<Pod>(['get', 'pod', name]);
const until = (stage: Stage, name: string, what: string, isSo: (pod: Pod) => boolean): Promise<Pod> => eventually(`pod ${name} ${what}`, () => seen(stage, name), isSo);
const running = (stage: Stage, name: string): Promise<Pod> =>
  until(stage, name, 'runs and is ready', ({ status }) => status.phase === 'Running' && status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'));
const remove = async ({ kubectl }: Stage, ...names: string[]): Promise<void> => void (await kubectl.run(['delete', 'pod', ...names, '--timeout', '100s']));
const reasons = async ({ kubectl }: Stage, name: string): Promise<string[]> =>
  (await kubectl.json<Events>(['get', 'events', '--field-selector', `involvedObject.name=${name}`])).items.map(({ reason }) => reason);

async function hello(stage: Stage): Promise<void> {
  await apply(stage, 'hello');
  const pod = await running(stage, 'hello');
  assert.match(pod.status.podIP ?? '', /^10\./);
  assert.equal(pod.status.observedGeneration, pod.metadata.generation);
  assert.equal(await stage.kubectl.run(['logs', 'hello']), 'hello\n');
  const events = await eventually('the events of its start', () => reasons(stage, 'hello'), (all) => ['Scheduled', 'Created', 'Started'].every((reason) => all.includes(reason)));
  assert.ok(events.includes('Pulled'), events.join());
  const description = await stage.kubectl.run(['describe', 'pod', 'hello']);
  assert.match(description, /Started container|Container started/);
  const log = stage.kubectl.output(['logs', '-f', 'hello']);
  await remove(stage, 'hello');
  assert.match((await log).stdout, /hello\nbye\n/);
  assert.match((await stage.kubectl.output(['get', 'pod', 'hello'])).stderr, /not found/);
}

async function logs(stage: Stage): Promise<void> {
  await apply(stage, 'logs');
  await running(stage, 'logs');
  const all = await eventually('all lines', () => stage.kubectl.run(['logs', 'logs']), (text) => /an error/.test(text) && /Z\n.*Z\n/.test(text));
  // stdout and stderr are two pipes: each keeps its order, between them there is none.
  assert.deepEqual(all.match(/^line \d+$/gm), Array.from({ length: 10 }, (_, n) => `line ${n + 1}`));
  assert.match(await stage.kubectl.run(['logs', 'logs', '--tail', '1']), /^\d{4}-[^\n]*Z\n$/);
  assert.equal(await stage.kubectl.run(['logs', 'logs', '--limit-bytes', '6']), all.slice(0, 6));
  assert.match(await stage.kubectl.run(['logs', 'logs', '--timestamps']), /^\d{4}-\d\d-\d\dT[\d:.]+Z line 1\n/m);
  await remove(stage, 'logs');
}

async function crash(stage: Stage): Promise<void> {
  await apply(stage, 'crash');
  const back = (pod: Pod): boolean => pod.status.containerStatuses?.[0]?.state.waiting?.reason === 'CrashLoopBackOff' && pod.status.containerStatuses[0].restartCount >= 1;
  const pod = await until(stage, 'crash', 'is in CrashLoopBackOff', back);
  const [status] = pod.status.containerStatuses ?? [];
  assert.deepEqual([status?.lastState.terminated?.exitCode, status?.lastState.terminated?.reason, status?.lastState.terminated?.message?.trim()], [7, 'Error', 'no luck']);
  assert.match(status?.state.waiting?.message ?? '', /^back-off \d+s restarting failed container=fails pod=crash_default\(/);
  // The container that was previous a moment ago may be collected while it is asked for: the next one says the same.
  await eventually('the last words of the previous container', async () => (await stage.kubectl.output(['logs', 'crash', '--previous'])).stdout, (text) => text === 'attempt failed\n');
  await eventually('the BackOff event', () => reasons(stage, 'crash'), (all) => all.includes('BackOff'));
  await remove(stage, 'crash');
}

async function job(stage: Stage): Promise<void> {
  await apply(stage, 'job');
  const pod = await until(stage, 'job', 'has succeeded', ({ status }) => status.phase === 'Succeeded');
  assert.deepEqual([pod.status.containerStatuses?.[0]?.state.terminated?.exitCode, pod.status.containerStatuses?.[0]?.restartCount], [0, 0]);
  assert.equal(await stage.kubectl.run(['logs', 'job']), 'done\n');
  await remove(stage, 'job');
}

async function initContainers(stage: Stage): Promise<void> {
  await apply(stage, 'init-containers');
  const pod = await running(stage, 'init-containers');
  assert.deepEqual(pod.status.initContainerStatuses?.map(({ state }) => state.terminated?.exitCode), [0, 0]);
  assert.equal(await eventually('its output', () => stage.kubectl.run(['logs', 'init-containers']), (text) => text !== ''), 'first\nsecond\n');
  await remove(stage, 'init-containers');
}

async function volumes(stage: Stage): Promise<void> {
  await apply(stage, 'volumes');
  await running(stage, 'volumes');
  const text = await eventually('its output', () => stage.kubectl.run(['logs', 'volumes', '-c', 'writer']), (all) => /host kernel/.test(all));
  assert.match(text, /^colour blue, token s3cret, page <h1>from a ConfigMap<\/h1>\ntmpfs \/memory tmpfs .*size=8192k[^]*\nhost kernel Linux\n$/);
  assert.equal(await eventually('the other container', () => stage.kubectl.run(['logs', 'volumes', '-c', 'reader']), (all) => all !== ''), 'shared\n');
  await remove(stage, 'volumes');
  await stage.kubectl.run(['delete', '-f', path.join(manifests, 'volumes.yaml'), '--ignore-not-found']);
}

async function resources(stage: Stage): Promise<void> {
  await apply(stage, 'resources');
  const names = ['guaranteed', 'burstable', 'best-effort'];
  const classes = await Promise.all(names.map(async (name) => (await running(stage, name)).status.qosClass));
  assert.deepEqual(classes, ['Guaranteed', 'Burstable', 'BestEffort']);
  await remove(stage, ...names);
}

async function slowStop(stage: Stage): Promise<void> {
  await apply(stage, 'slow-stop');
  await running(stage, 'slow-stop');
  await remove(stage, 'slow-stop');
}

async function forced(stage: Stage): Promise<void> {
  await apply(stage, 'slow-stop');
  await running(stage, 'slow-stop');
  await stage.kubectl.run(['delete', 'pod', 'slow-stop', '--force', '--grace-period=0']);
  assert.match((await stage.kubectl.output(['get', 'pod', 'slow-stop'])).stderr, /not found/);
}

async function badImage(stage: Stage): Promise<void> {
  await stage.kubectl.apply({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'bad' }, spec: { containers: [{ name: 'c', image: 'registry.k8s.io/no/such:image' }, { name: 'd', image: 'library/UPPER:1' }] } });
  const waits = (pod: Pod, index: number): string => pod.status.containerStatuses?.[index]?.state.waiting?.reason ?? '';
  const pod = await until(stage, 'bad', 'waits for its images', (now) => /^(ErrImagePull|ImagePullBackOff)$/.test(waits(now, 0)) && waits(now, 1) === 'InvalidImageName');
  assert.equal(pod.status.phase, 'Pending');
  await remove(stage, 'bad');
}

const life: Readonly<Record<string, (stage: Stage) => Promise<void>>> = {
  'says hello, is described, and ends when asked to': hello,
  'has logs that can be followed, cut and stamped': logs,
  'that fails goes through CrashLoopBackOff with count, code and message': crash,
  'that ends well has succeeded': job,
  'runs its init containers first': initContainers,
  'has its volumes and variables': volumes,
  'has the QoS class of its resources': resources,
  'that ignores SIGTERM is killed after its grace': slowStop,
  'that is deleted by force is gone at once': forced,
  'is exec’ed into, copied to and from, forwarded to and attached to': streams,
  'with images that are not there waits with the reason': badImage,
};

/** One cluster and node for all tests of a table; each test is told on its own, and nothing is left at the end. */
function onNode(title: string, wanted: readonly string[], start: StartNode): void {
  test(title, needs(...wanted), (t) => nothingLeft(async () => {
    await using registry = await testRegistry();
    await using cluster = await testCluster();
    await using _ = await start({ cluster, registry });
    for (const [name, body] of Object.entries(life)) await t.test(`a pod ${name}`, () => body({ cluster, kubectl: cluster.kubectl }));
  }));
}

onNode('nodelet, whole', ['root', 'bundle', 'cri', 'conmon', 'cluster'], ({ cluster, registry }) => startNodelet({ mode: 'run', cluster, writeHosts: registry.writeHosts }));

onNode('the agent on containerd', ['root', 'bundle', 'cri', 'cluster'], async ({ cluster, registry }) => {
  await using undo = new AsyncDisposableStack();
  const containerd = undo.use(await startContainerd({ writeHosts: registry.writeHosts }));
  undo.use(await startNodelet({ mode: 'agent', cluster, criSocket: containerd.socket }));
  return undo.move();
});

onNode('the stock kubelet on our CRI server', ['root', 'bundle', 'cri', 'conmon', 'cluster', 'kubelet'], async ({ cluster, registry }) => {
  await using undo = new AsyncDisposableStack();
  const cri = undo.use(await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts }));
  undo.use(await startKubelet({ cluster, criSocket: cri.socket }));
  return undo.move();
});
