/** The daemon dies (kill -9) and comes back: containers do not notice, and exit codes are kept. (Kills in the middle of requests: e2e/faults/kill.test.ts.) */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { crictlFor, output, type Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon');

interface Container { status: { state: string; exitCode: number; reason: string; createdAt: string; startedAt: string; finishedAt: string }; info: { pid: number } }
interface Sandbox { status: { state: string; network: { ip: string } } }

/** A node with the image pulled, and a directory that containers see as /control. */
async function withNode(body: (crictl: Crictl, node: Nodelet, control: string) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts });
    await using crictl = await crictlFor(node.socket);
    await crictl.run(['pull', busyboxImage]);
    const control = path.join(node.dir, 'control');
    await mkdir(control);
    await body(crictl, node, control);
  });
}

/** `pid`: 0 one namespace for the pod (with an init), 1 one per container. */
const podConfig = (node: Nodelet, name: string, pid: 0 | 1): object => ({
  metadata: { name, namespace: 'e2e', uid: `${name}-uid`, attempt: 0 }, hostname: name, log_directory: path.join(node.dir, 'pod-logs', name),
  linux: { security_context: { namespace_options: { pid } } },
});
const containerConfig = (name: string, script: string, control: string): object => ({
  metadata: { name, attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', script], log_path: `${name}.log`,
  mounts: [{ container_path: '/control', host_path: control }],
});

const counting = 'trap "exit 7" TERM; i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done';
const until = (file: string, then: string): string => `until [ -e /control/${file} ]; do sleep 0.05; done; ${then}`;

const inspect = (crictl: Crictl, id: string): Promise<Container> => crictl.json<Container>(['inspect', id]);
const hasEnded = (pid: number): boolean => !existsSync(`/proc/${pid}`);

async function makePod(crictl: Crictl, node: Nodelet, options: { readonly name: string; readonly pid: 0 | 1 }): Promise<{ id: string; file: string }> {
  const file = await crictl.file(`pod-${options.name}.json`, podConfig(node, options.name, options.pid));
  return { id: (await crictl.run(['runp', file])).trim(), file };
}
async function create(crictl: Crictl, pod: { id: string; file: string }, config: { readonly name: string; readonly script: string; readonly control: string }): Promise<string> {
  const file = await crictl.file(`${pod.id}-${config.name}.json`, containerConfig(config.name, config.script, config.control));
  return (await crictl.run(['create', pod.id, file, pod.file])).trim();
}
async function start(...[crictl, pod, config]: Parameters<typeof create>): Promise<string> {
  const id = await create(crictl, pod, config);
  await crictl.run(['start', id]);
  return id;
}

/** The text of each line of a log in CRI format (`TIME STREAM F TEXT`). */
const logLines = async (node: Nodelet, pod: string, name: string): Promise<string[]> =>
  (await readFile(path.join(node.dir, 'pod-logs', pod, `${name}.log`), 'utf8')).trimEnd().split('\n').map((line) => line.split(' ').slice(3).join(' '));

for (const pid of [0, 1] as const) {
  test(`containers run on through kill -9, those that end meanwhile keep their exit code (pid namespace of ${pid === 0 ? 'the pod' : 'each container'})`, what, () => withNode(async (crictl, node, control) => {
    const pod = await makePod(crictl, node, { name: 'life', pid });
    const steady = await start(crictl, pod, { name: 'steady', script: counting, control });
    const ends = await start(crictl, pod, { name: 'ends', script: until('end', 'echo last words; exit 42'), control });
    const waiting = await create(crictl, pod, { name: 'waiting', script: until('never', 'exit 0'), control });
    const before = { steady: await inspect(crictl, steady), ends: await inspect(crictl, ends), pod: await crictl.json<Sandbox>(['inspectp', pod.id]) };
    assert.equal(before.steady.status.state, 'CONTAINER_RUNNING');

    await node.kill();
    await writeFile(path.join(control, 'end'), '');
    await eventually('the container ends without the daemon', () => hasEnded(before.ends.info.pid));
    const downAt = (await logLines(node, 'life', 'steady')).length;
    await eventually('the other one goes on', async () => (await logLines(node, 'life', 'steady')).length > downAt);
    const backAt = Date.now();
    await node.start();

    const after = { steady: await inspect(crictl, steady), ends: await inspect(crictl, ends), pod: await crictl.json<Sandbox>(['inspectp', pod.id]) };
    assert.deepEqual(after.steady.status, before.steady.status);
    assert.equal(after.steady.info.pid, before.steady.info.pid);
    assert.ok(!hasEnded(after.steady.info.pid));
    assert.deepEqual([after.ends.status.state, after.ends.status.exitCode, after.ends.status.reason], ['CONTAINER_EXITED', 42, 'Error']);
    assert.ok(Date.parse(after.ends.status.finishedAt) <= backAt, 'it ended when it ended, not when that was noticed');
    assert.match(await crictl.run(['logs', ends]), /last words/);
    assert.deepEqual(after.pod.status, before.pod.status);

    const lines = await logLines(node, 'life', 'steady');
    assert.deepEqual(lines, lines.map((_, i) => String(i)), 'no line of the log is lost or doubled');
    assert.equal((await crictl.run(['exec', '-s', steady, 'hostname'])).trim(), 'life');
    await crictl.run(['start', waiting]);
    assert.equal((await inspect(crictl, waiting)).status.state, 'CONTAINER_RUNNING');
    await crictl.run(['stop', '--timeout', '30', steady]);
    assert.equal((await inspect(crictl, steady)).status.exitCode, 7);
    await crictl.run(['rmp', '-f', pod.id]);
    assert.equal((await crictl.run(['ps', '-a', '-q'])).trim(), '');
  }));
}

test('a container that went together with its monitor while the daemon was away is exited, not running for ever', what, () => withNode(async (crictl, node, control) => {
  const pod = await makePod(crictl, node, { name: 'lost', pid: 1 });
  const id = await start(crictl, pod, { name: 'lost', script: counting, control });
  const { pid } = (await inspect(crictl, id)).info;
  const monitor = Number(/^PPid:\s+(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
  assert.match(await readFile(`/proc/${monitor}/cmdline`, 'utf8'), /conmon/);
  await node.kill();
  process.kill(monitor, 'SIGKILL');
  process.kill(pid, 'SIGKILL');
  await eventually('both are gone', () => hasEnded(monitor) && hasEnded(pid));
  await node.start();
  const { status } = await inspect(crictl, id);
  assert.deepEqual([status.state, status.exitCode], ['CONTAINER_EXITED', 137]);
  await crictl.run(['rm', id]);
  await crictl.run(['rmp', '-f', pod.id]);
}));

test('the command of an exec dies with the daemon in its path, at the latest when the next one starts; its container lives and can be attached to', what, () => withNode(async (crictl, node, control) => {
  const pod = await makePod(crictl, node, { name: 'exec', pid: 1 });
  const id = await start(crictl, pod, { name: 'ticks', script: 'while true; do echo tick; sleep 0.1; done', control });
  const forLong = `sleep ${1_000_000 + Math.floor(Math.random() * 1_000_000)}`;
  const commands = async (): Promise<string[]> => (await output('pgrep', ['-fx', forLong])).stdout.split('\n').filter((line) => line !== '');
  await using cut = crictl.start(['exec', id, 'sh', '-c', `trap "" HUP PIPE; ${forLong} & ${forLong}; true`]);
  await eventually('the command runs', commands, (pids) => pids.length === 2);
  await node.kill();
  await cut.exitCode;
  assert.equal((await commands()).length, 2);
  await node.start();
  assert.deepEqual(await commands(), []);
  await using client = crictl.start(['attach', id]);
  await client.says(/tick\n/);
}));

test('a daemon that is killed during StopContainer can be asked again', what, () => withNode(async (crictl, node, control) => {
  const pod = await makePod(crictl, node, { name: 'stop', pid: 1 });
  const id = await start(crictl, pod, { name: 'stop', script: `trap "touch /control/asked" TERM; ${until('go', 'exit 9')}`, control });
  const interrupted = crictl.output(['stop', '--timeout', '300', id]);
  await eventually('the container was asked to stop', () => existsSync(path.join(control, 'asked')));
  await node.kill();
  assert.notEqual((await interrupted).exitCode, 0);
  await node.start();
  assert.equal((await inspect(crictl, id)).status.state, 'CONTAINER_RUNNING', 'the grace is not over');
  const again = crictl.run(['stop', '--timeout', '300', id]);
  await writeFile(path.join(control, 'go'), '');
  await again;
  assert.equal((await inspect(crictl, id)).status.exitCode, 9);
  await crictl.run(['rmp', '-f', pod.id]);
}));
