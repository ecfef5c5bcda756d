/** A node without a cluster: pods from a directory, on whatever cgroup version the machine has (hack/test-cgroup2.sh runs this on v2). */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { eventually, type Patience } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { crictlFor, type Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const isCgroup2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
/** Generous for user-mode-linux, too, where processes are slow. */
const patience: Patience = { withinMs: 240_000, everyMs: 500 };
const slowly = { timeoutMs: 240_000 };

/** The number in a file of a group: `v1` is CONTROLLER/FILE there. */
const valueOf = (group: string, v1: string, v2: string): string =>
  readFileSync(isCgroup2 ? path.join('/sys/fs/cgroup', group, v2) : path.join('/sys/fs/cgroup', path.dirname(v1), group, path.basename(v1)), 'utf8').trim();
const groupsIn = (group: string): string[] => {
  const dir = path.join('/sys/fs/cgroup', isCgroup2 ? '' : 'memory', group);
  return existsSync(dir) ? readdirSync(dir, { withFileTypes: true }).filter((each) => each.isDirectory()).map((each) => each.name) : [];
};

interface Listed { containers: { id: string; state: string; metadata: { name: string; attempt: number }; labels: Record<string, string> }[] }
const containersOf = async (crictl: Crictl, pod: string, ...flags: string[]): Promise<Listed['containers']> =>
  (await crictl.json<Listed>(['ps', ...flags], slowly)).containers.filter(({ labels }) => labels['io.kubernetes.pod.name']?.startsWith(`${pod}-`));

async function logOf(node: Nodelet, pod: string, file: string): Promise<string> {
  const dir = readdirSync(node.podLogsDir).find((name) => name.includes(`_${pod}-`));
  return await readFile(path.join(node.podLogsDir, dir ?? 'none yet', file), 'utf8');
}

async function withNode(body: (node: Nodelet, crictl: Crictl) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using node = await startNodelet({ mode: 'run', writeHosts: registry.writeHosts });
    await using crictl = await crictlFor(node.socket);
    await body(node, crictl);
  }, { withinMs: 60_000, ...(process.env['VM_CGROUP2'] === '1' && { ignore: [/^file \/var\//] }) }); // in user-mode-linux /var is the host's, where others are at work
}

const manifest = (name: string, script: string, resources: object = {}): string => JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name },
  spec: { terminationGracePeriodSeconds: 20, containers: [{ name: 'main', image: busyboxImage, command: ['sh', '-c', script], resources }] },
});
const serving = 'trap "echo bye; exit 0" TERM; echo hello; while true; do sleep 0.1; done';

test('a pod put into the directory runs in its limits, outlives the daemon, and goes when its file goes', needs('root', 'bundle', 'cri', 'conmon'), () => withNode(async (node, crictl) => {
  const file = path.join(node.podsDir, 'web.yaml');
  await writeFile(file, manifest('web', serving, { requests: { cpu: '250m', memory: '16Mi' }, limits: { memory: '32Mi' } }));
  const [container] = await eventually('the container runs', () => containersOf(crictl, 'web'), ([first]) => first?.state === 'CONTAINER_RUNNING', patience);
  await eventually('it says hello', () => logOf(node, 'web', 'main/0.log'), (text) => text.includes('hello'), patience);

  const tier = `${node.cgroupRoot}/kubepods/burstable`;
  const pods = groupsIn(tier);
  assert.equal(pods.length, 1, `one pod group in ${tier}`);
  const pod = `${tier}/${pods[0]}`;
  assert.match(pod, /\/pod[0-9a-f-]{32,36}$/);
  assert.equal(valueOf(pod, 'memory/memory.limit_in_bytes', 'memory.max'), String(32 << 20));
  assert.equal(valueOf(pod, 'cpu/cpu.shares', 'cpu.weight'), isCgroup2 ? '35' : '256');
  assert.equal(valueOf(tier, 'cpu/cpu.shares', 'cpu.weight'), isCgroup2 ? '35' : '256', 'the tier weighs what its pods request');
  assert.equal(valueOf(`${pod}/${container?.id}`, 'memory/memory.limit_in_bytes', 'memory.max'), String(32 << 20), 'the container lies below');

  await node.kill();
  await node.start();
  await writeFile(path.join(node.podsDir, 'later.yaml'), manifest('later', serving));
  await eventually('the agent is at work again', () => containersOf(crictl, 'later'), ([first]) => first?.state === 'CONTAINER_RUNNING', patience);
  const all = await containersOf(crictl, 'web', '-a');
  assert.deepEqual(all.map(({ id, state }) => [id, state]), [[container?.id, 'CONTAINER_RUNNING']], 'the daemon was killed, the container was not');

  await rm(file);
  await eventually('its container is gone', () => containersOf(crictl, 'web', '-a'), (left) => left.length === 0, patience);
  await eventually('its group is gone', () => groupsIn(tier), (left) => left.length === 0, patience);
}));

test('a container that fails is started again, later each time, and a broken manifest keeps nobody else from running', needs('root', 'bundle', 'cri', 'conmon'), () => withNode(async (node, crictl) => {
  await writeFile(path.join(node.podsDir, 'broken.yaml'), 'kind: Pod\nmetadata: [');
  await writeFile(path.join(node.podsDir, 'fails.yaml'), manifest('fails', 'echo tried; exit 3'));
  await eventually('a second attempt', () => containersOf(crictl, 'fails', '-a'), (all) => all.some(({ metadata }) => metadata.attempt >= 1), patience);
  await eventually('the log names the broken file', () => node.log(), (log) => log.includes('broken.yaml'), patience);
}));
