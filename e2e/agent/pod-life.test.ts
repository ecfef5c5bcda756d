/** Lives of static pods, as the files of a standalone node tell them: settings, order of the end, crashes across restarts, changes. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { needs } from '../harness/tools.ts';

interface State { running?: { startedAt: string }; waiting?: { reason: string; message: string }; terminated?: { exitCode: number; reason: string; message?: string } }
interface Container { name: string; restartCount: number; ready: boolean; containerID?: string; state: State; lastState: State }
interface Pod {
  metadata: { name: string; uid: string };
  status: { phase: string; podIP?: string; startTime: string; qosClass: string; initContainerStatuses?: Container[]; containerStatuses: Container[]; conditions: { type: string; status: string; lastTransitionTime: string }[] };
}

/** Undefined: the node does not know it. */
async function podOf(node: Nodelet, name: string): Promise<Pod | undefined> {
  const file = path.join(node.root, 'agent/pods.json');
  if (!existsSync(file)) return undefined;
  const { items } = JSON.parse(await readFile(file, 'utf8')) as { items: Pod[] };
  return items.find(({ metadata }) => metadata.name === `${name}-${node.nodeName}`);
}
const until = async (node: Nodelet, name: string, what: string, accept: (pod: Pod) => boolean): Promise<Pod> => {
  const found = await eventually(`${name} ${what}`, () => podOf(node, name), (pod) => pod !== undefined && accept(pod));
  assert.ok(found !== undefined);
  return found;
};
const running = (node: Nodelet, name: string): Promise<Pod> => until(node, name, 'runs', ({ status }) => status.phase === 'Running' && status.containerStatuses.every(({ state }) => state.running !== undefined));
const gone = (node: Nodelet, name: string): Promise<unknown> => eventually(`${name} is gone`, () => podOf(node, name), (pod) => pod === undefined);

async function logOf(node: Nodelet, pod: string, container: string, attempt = 0): Promise<string> {
  const dir = readdirSync(node.podLogsDir).find((entry) => entry.includes(`_${pod}-`)) ?? 'none yet';
  const text = await readFile(path.join(node.podLogsDir, dir, container, `${attempt}.log`), 'utf8');
  return text.replaceAll(/^\S+ (stdout|stderr) [FP] /gm, '');
}

const put = (node: Nodelet, name: string, ...objects: object[]): Promise<void> => writeFile(path.join(node.podsDir, `${name}.yaml`), objects.map((each) => JSON.stringify(each)).join('\n---\n'));
const take = (node: Nodelet, name: string): Promise<void> => rm(path.join(node.podsDir, `${name}.yaml`));
const pod = (name: string, spec: object): object => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec: { terminationGracePeriodSeconds: 20, ...spec } });
const container = (name: string, script: string, more: object = {}): object => ({ name, image: busyboxImage, command: ['sh', '-c', script], ...more });
const forever = 'trap "exit 0" TERM; while true; do sleep 0.1; done';

async function settings(node: Nodelet): Promise<void> {
  const config = (text: string): object => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'cm' }, data: { greeting: text } });
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, data: { password: Buffer.from('hunter2').toString('base64') } };
  const wants = pod('settings', {
    containers: [container('c', `echo "$GREETING/$PASSWORD/$NAME/$MEMORY/$(hostname)"; echo "$(cat /etc/s/password)"; grep -c "$(hostname)" /etc/hosts; ${forever}`, {
      resources: { limits: { memory: '64Mi' } },
      env: [
        { name: 'WHO', valueFrom: { configMapKeyRef: { name: 'cm', key: 'greeting' } } }, { name: 'GREETING', value: '<$(WHO)>' },
        { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 's', key: 'password' } } },
        { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
        { name: 'MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
      ],
      volumeMounts: [{ name: 's', mountPath: '/etc/s' }, { name: 'cm', mountPath: '/etc/cm' }],
    })],
    volumes: [{ name: 's', secret: { secretName: 's' } }, { name: 'cm', configMap: { name: 'cm' } }],
  });
  await put(node, 'settings', wants);
  const waiting = await until(node, 'settings', 'waits for its objects', ({ status }) => status.phase === 'Pending');
  assert.equal(waiting.status.containerStatuses[0]?.state.waiting?.reason, 'ContainerCreating');
  await eventually('the event names what is missing', () => node.log(), (log) => /FailedMount.*(configmap|secret).*not found/.test(log));
  await put(node, 'settings-objects', config('hello'), secret);
  const { metadata, status } = await running(node, 'settings');
  assert.equal(status.qosClass, 'Burstable');
  const text = await eventually('its output', () => logOf(node, 'settings', 'c'), (log) => log.split('\n').length > 3);
  assert.equal(text, `<hello>/hunter2/${metadata.name}/64/${metadata.name}\nhunter2\n1\n`);

  await put(node, 'settings-objects', config('good evening'), secret);
  const file = path.join(node.root, 'agent/pods', metadata.uid, 'volumes/kubernetes.io~configmap/cm/greeting');
  await eventually('the mounted ConfigMap follows', () => readFile(file, 'utf8'), (now) => now === 'good evening');
  assert.equal((await podOf(node, 'settings'))?.status.containerStatuses[0]?.restartCount, 0);
  await take(node, 'settings');
  await take(node, 'settings-objects');
  await gone(node, 'settings');
}

async function order(node: Nodelet): Promise<void> {
  const notes = { volumeMounts: [{ name: 'notes', mountPath: '/notes' }] };
  const note = (text: string): string => `echo ${text} >>/notes/log`;
  const stays = (name: string): string => `trap "${note(`${name} ends`)}; exit 0" TERM; ${note(`${name} starts`)}; while true; do sleep 0.1; done`;
  await put(node, 'order', pod('order', {
    initContainers: [container('first', note('first'), notes), container('side', stays('side'), { restartPolicy: 'Always', ...notes })],
    containers: [container('main', stays('main'), { lifecycle: { preStop: { exec: { command: ['sh', '-c', `sleep 1; ${note('hook')}`] } }, postStart: { exec: { command: ['sh', '-c', note('started')] } } }, ...notes })],
    volumes: [{ name: 'notes', hostPath: { path: path.join(node.dir, 'notes'), type: 'DirectoryOrCreate' } }],
  }));
  const { status } = await running(node, 'order');
  assert.equal(status.initContainerStatuses?.[0]?.state.terminated?.exitCode, 0);
  const read = async (): Promise<string[]> => (await readFile(path.join(node.dir, 'notes/log'), 'utf8')).trim().split('\n');
  await eventually('main has started', read, (lines) => lines.includes('main starts') && lines.includes('started'));
  await take(node, 'order');
  await gone(node, 'order');
  const lines = await read();
  assert.deepEqual(lines.filter((line) => line !== 'started'), ['first', 'side starts', 'main starts', 'hook', 'main ends', 'side ends']);
}

async function crash(node: Nodelet): Promise<void> {
  await put(node, 'crash', pod('crash', { containers: [container('c', 'echo "try $((1+1))"; echo sorry >/dev/termination-log; exit 3')] }));
  const held = ({ status: { containerStatuses: [c] } }: Pod): boolean => c?.state.waiting?.reason === 'CrashLoopBackOff' && c.restartCount >= 1;
  const before = await until(node, 'crash', 'is held back', held);
  const [c] = before.status.containerStatuses;
  assert.equal(before.status.phase, 'Running');
  assert.match(c?.state.waiting?.message ?? '', /^back-off 10s restarting failed container=c pod=crash-.*_default\([0-9a-f]{32}\)$/);
  assert.deepEqual([c?.lastState.terminated?.exitCode, c?.lastState.terminated?.reason, c?.lastState.terminated?.message], [3, 'Error', 'sorry\n']);

  await node.kill();
  await node.start();
  const after = await until(node, 'crash', 'goes on counting', (now) => held(now) && (now.status.containerStatuses[0]?.restartCount ?? 0) > (c?.restartCount ?? 0));
  assert.equal(after.metadata.uid, before.metadata.uid);
  assert.equal(after.status.startTime, before.status.startTime);
  assert.equal(await logOf(node, 'crash', 'c', after.status.containerStatuses[0]?.restartCount), 'try 2\n');
  await take(node, 'crash');
  await gone(node, 'crash');
}

async function change(node: Nodelet): Promise<void> {
  const version = (text: string): Promise<void> => put(node, 'change', pod('change', { containers: [container('c', `echo ${text}; ${forever}`)] }));
  await version('one');
  const first = await running(node, 'change');
  await version('two');
  const second = await until(node, 'change', 'is the new one', ({ metadata, status }) => metadata.uid !== first.metadata.uid && status.phase === 'Running');
  await eventually('it says so', () => logOf(node, 'change', 'c'), (text) => text === 'two\n');
  assert.notEqual(second.status.containerStatuses[0]?.containerID, first.status.containerStatuses[0]?.containerID);
  await writeFile(path.join(node.podsDir, 'change.yaml'), 'kind: Pod\nmetadata: {name: change}\nspec: {contaners: []}');
  await eventually('the log names file and field', () => node.log(), (log) => log.includes('change.yaml: apiVersion: must be v1') || log.includes('change.yaml: spec.contaners: unknown field'));
  assert.equal((await podOf(node, 'change'))?.metadata.uid, second.metadata.uid, 'a broken file leaves its pod as it was');
  await take(node, 'change');
  await gone(node, 'change');
}

test('static pods live as they should', needs('root', 'bundle', 'cri', 'conmon'), (t) => nothingLeft(async () => {
  await using registry = await testRegistry();
  await using node = await startNodelet({ mode: 'run', writeHosts: registry.writeHosts });
  await t.test('settings come from ConfigMaps, Secrets and the pod itself, and mounted ones follow their changes', () => settings(node));
  await t.test('init container, sidecar, main; then hook, main, sidecar', () => order(node));
  await t.test('crashes are counted and held back, also across a kill -9 of the agent', () => crash(node));
  await t.test('a changed file replaces its pod, a broken one does not', () => change(node));
}));
