/** NRI plugins that behave and that do not: what they are told, what they change, and that no pod suffers from them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connectCri, LinuxContainerResources, UpdatePodSandboxResourcesRequest, type UpdatePodSandboxResourcesResponse } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { connectNriPlugin, field, message, type NriPlugin, type NriPluginOptions } from '../harness/nri-plugin.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { crictlFor, type Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon');

interface Node {
  readonly node: Nodelet;
  readonly crictl: Crictl;
  plugin(options?: Partial<NriPluginOptions>): Promise<NriPlugin>;
  pod(name: string): Promise<{ id: string; file: string }>;
  create(pod: { id: string; file: string }, name: string, script?: string): Promise<string>;
}

async function withNode(nri: object, body: (node: Node) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts, config: { nri } });
    await using crictl = await crictlFor(node.socket);
    await crictl.run(['pull', busyboxImage]);
    await body({
      node, crictl,
      plugin: (options) => connectNriPlugin(path.join(node.dir, 'nri.sock'), { name: 'double', index: '50', ...options }),
      pod: async (name) => {
        const file = await crictl.file(`pod-${name}.json`, { metadata: { name, namespace: 'e2e', uid: `${name}-uid`, attempt: 0 }, log_directory: path.join(node.dir, 'pod-logs', name) });
        return { id: (await crictl.run(['runp', file])).trim(), file };
      },
      create: async (pod, name, script = 'sleep 1000') => {
        const file = await crictl.file(`${name}.json`, { metadata: { name, attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', script], log_path: `${name}.log` });
        return (await crictl.run(['create', pod.id, file, pod.file])).trim();
      },
    });
  });
}

interface Inspected { status: { state: string; exitCode: number; resources: { linux: { cpuShares: string } } } }
const shares = async (crictl: Crictl, id: string): Promise<string> => (await crictl.json<Inspected>(['inspect', id])).status.resources.linux.cpuShares;

/** CreateContainerResponse: adjust (1) { env (4), linux (6) { resources (2) { cpu (2) { shares (1) } } } }. */
const adjustment = field(1, message(field(4, message(field(1, 'FROM_NRI'), field(2, 'yes'))), field(6, field(2, field(2, field(1, field(1, 333)))))));

/** crictl has no word for it. */
async function resizePod(node: Nodelet, podSandboxId: string): Promise<void> {
  const client = connectCri(node.socket);
  const request = UpdatePodSandboxResourcesRequest.create({ podSandboxId, resources: LinuxContainerResources.create({ cpuShares: 512n }) });
  await promisify<UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse>((message, done) => void client.runtime.updatePodSandboxResources(message, done))(request);
  client.close();
}

test('a plugin hears every moment in order, changes what is made, and updates and evicts what runs', what, () => withNode({}, async ({ node, crictl, plugin, pod, create }) => {
  using double = await plugin({ validates: true, react: ({ method }) => (method === 'CreateContainer' ? adjustment : undefined) });
  const web = await pod('web');
  const env = await create(web, 'env', 'echo "it says $FROM_NRI"; sleep 1000');
  await crictl.run(['start', env]);
  await eventually('the changed environment', () => readFile(path.join(node.dir, 'pod-logs/web/env.log'), 'utf8'), (log) => log.includes('it says yes'));
  assert.equal(await shares(crictl, env), '333');
  assert.deepEqual(await double.update(env, 444), []);
  assert.equal(await shares(crictl, env), '444');
  await double.evict(env);
  await eventually('the eviction', () => crictl.json<Inspected>(['inspect', env]), ({ status }) => status.state === 'CONTAINER_EXITED' && status.exitCode === 137);
  await resizePod(node, web.id);
  for (const command of [['rm', env], ['stopp', web.id], ['rmp', web.id]]) await crictl.run(command);
  assert.deepEqual(double.events.map(({ method }) => method), [
    'RunPodSandbox', 'CreateContainer', 'ValidateContainerAdjustment', 'PostCreateContainer', 'StartContainer', 'PostStartContainer', 'StopContainer',
    'UpdatePodSandbox', 'PostUpdatePodSandbox', 'RemoveContainer', 'StopPodSandbox', 'RemovePodSandbox',
  ]);
  assert.deepEqual([...new Set(double.events.map((event) => event.pod))], [web.id]);
  assert.deepEqual([...new Set(double.events.map((event) => event.container).filter(Boolean))], [env]);
}));

test('plugins that hang, leave in the middle or talk nonsense are let go, and the pod goes on', what, () => withNode({ requestTimeout: '300ms' }, async ({ node, plugin, pod, create }) => {
  const noise = connect(path.join(node.dir, 'nri.sock')).resume();
  noise.write(Buffer.alloc(64, 0xff));
  await once(noise, 'close');
  const web = await pod('web');
  for (const [i, reaction] of (['silence', 'leave'] as const).entries()) {
    using bad = await plugin({ react: ({ method }) => (method === 'CreateContainer' ? reaction : undefined) });
    using good = await plugin({ index: '90' });
    const id = await create(web, reaction);
    assert.equal(bad.isClosed, true, reaction);
    assert.equal(good.events.some(({ method, container }) => method === 'CreateContainer' && container === id), true, `the plugin behind it is asked (${i})`);
  }
}));

test('a plugin that refuses makes the request fail, and nothing is left of it', what, () => withNode({}, async ({ crictl, plugin, pod, create }) => {
  const mood = { refuses: '' };
  using double = await plugin({ react: ({ method }) => (method === mood.refuses ? { refuse: 'not today' } : undefined) });
  mood.refuses = 'RunPodSandbox';
  await assert.rejects(pod('web'), /not today/);
  mood.refuses = 'CreateContainer';
  const web = await pod('web');
  await assert.rejects(create(web, 'one'), /50-double.*not today/s);
  mood.refuses = 'StartContainer';
  const one = await create(web, 'one');
  await assert.rejects(crictl.run(['start', one]), /not today/);
  assert.equal((await crictl.run(['ps', '--all', '--quiet'])).trim(), one);
  assert.equal((await crictl.run(['pods', '--quiet'])).trim(), web.id);
  const told = (method: string): string[] => double.events.filter((event) => event.method === method).map(({ pod: podId, container }) => container || podId);
  await eventually('the end of all that was announced and did not come', () => told('CreateContainer').length === told('StopContainer').length);
  assert.equal(told('RunPodSandbox').length - told('RemovePodSandbox').length, 1);
}));

test('no container is lost to a plugin that joins while containers are made', what, () => withNode({}, async ({ plugin, pod, create }) => {
  const web = await pod('web');
  const made: string[] = [];
  const making = Array.from({ length: 4 }, async (_, worker) => {
    for (let i = 0; i < 4; i++) made.push(await create(web, `c${worker}-${i}`));
  });
  for (let i = 0; i < 3; i++) {
    using double = await plugin({ index: `1${i}`, react: ({ method }) => (method === 'Synchronize' ? sleep(200) : undefined) });
    const before = made.length;
    await eventually('some more containers', () => made.length > before || made.length === 16);
    const known = new Set([...double.synced.containers, ...double.events.filter(({ method }) => method === 'CreateContainer').map(({ container }) => container)]);
    assert.deepEqual(made.filter((id) => !known.has(id)), []);
  }
  await Promise.all(making);
}));

test('an installed plugin is started with its configuration, and a broken one beside it is left out', what, () => withNode({}, async ({ node, pod }) => {
  await node.stop();
  for (const each of ['nri-plugins', 'nri-conf.d']) await mkdir(path.join(node.dir, each));
  const heard = path.join(node.dir, 'heard');
  const module = path.join(import.meta.dirname, '../harness/nri-plugin.ts');
  const program = `#!${process.execPath}\nvoid import(${JSON.stringify(module)}).then((double) => double.runInstalledPlugin(${JSON.stringify(heard)}));\n`;
  for (const [file, text] of [['10-double', program], ['20-broken', '#!/bin/false\n']] as const) {
    await writeFile(path.join(node.dir, 'nri-plugins', file), text);
    await chmod(path.join(node.dir, 'nri-plugins', file), 0o755);
  }
  await writeFile(path.join(node.dir, 'nri-conf.d/double.conf'), 'as it likes');
  await node.start();
  await pod('web');
  await eventually('what it heard', () => readFile(heard, 'utf8'), (text) => ['Synchronize', 'RunPodSandbox', '10 double as it likes'].every((line) => text.split('\n').includes(line)));
}));
