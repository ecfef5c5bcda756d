/** What an operator does to a running server: changes its configuration, watches it by systemd's means, asks it whether it is well. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { criNeeds, startCri } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { notifySocket } from '../harness/notify-socket.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { freePorts } from '../harness/private.ts';
import { crictlFor, output } from '../harness/shell.ts';
import { needs, repositoryRoot, systemProgram } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon', 'runc', 'perl');
const randomName = (): string => `@e2e-nlt-${randomBytes(6).toString('hex')}`;

interface Line { level: string; msg: string; why?: string; changed?: string[]; rpc?: string }
const linesOf = async (node: Nodelet): Promise<Line[]> => (await node.log()).split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Line);
/** The lines after the first `from`, once one of them fits. */
const said = (node: Nodelet, from: number, name: string, fits: (line: Line) => boolean): Promise<Line[]> =>
  eventually(name, async () => (await linesOf(node)).slice(from), (lines) => lines.some(fits));

test('a changed configuration is taken over, a wrong one refused, and a running container does not notice', what, () => nothingLeft(async () => {
  await using registry = await testRegistry();
  await using manager = await notifySocket(randomName());
  await using node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts, env: manager.env });
  await using crictl = await crictlFor(node.socket);
  await eventually('ready was told', async () => manager.messages.includes('READY=1'), (told) => told);
  await crictl.run(['pull', busyboxImage]);
  const pod = await crictl.file('pod.json', { metadata: { name: 'p', namespace: 'e2e', uid: 'p-uid', attempt: 0 }, log_directory: path.join(node.dir, 'pod-logs') });
  const container = await crictl.file('c.json', { metadata: { name: 'c', attempt: 0 }, image: { image: busyboxImage }, command: ['sleep', '1000'], log_path: 'c.log' });
  const podId = (await crictl.run(['runp', pod])).trim();
  const id = (await crictl.run(['create', podId, container, pod])).trim();
  await crictl.run(['start', id]);
  const pidOf = async (): Promise<number> => (await crictl.json<{ info: { pid: number } }>(['inspect', id])).info.pid;
  const pid = await pidOf();

  // a drop-in, noticed by itself
  const dropIns = path.join(node.dir, 'config.d');
  await mkdir(dropIns);
  const dropIn = path.join(dropIns, '10-test.yaml');
  const hangUp = (): boolean => process.kill(node.pid ?? 0, 'SIGHUP');
  let from = (await linesOf(node)).length;
  await writeFile(dropIn, `log: {level: info}\ncri: {runtimes: [{name: another, path: ${systemProgram('runc')}}]}\n`);
  const taken = await said(node, from, 'the drop-in is taken over', ({ msg }) => msg === 'configuration taken over');
  assert.deepEqual(taken.find(({ msg }) => msg === 'configuration taken over')?.changed, ['log.level', 'cri.runtimes']);
  await eventually('the service manager was told', async () => manager.messages.slice(manager.messages.indexOf('READY=1') + 1), (told) => told.some((each) => /^RELOADING=1;MONOTONIC_USEC=\d+$/.test(each)) && told.includes('READY=1'));
  from = (await linesOf(node)).length;
  await crictl.run(['info']);
  assert.deepEqual((await linesOf(node)).slice(from).filter(({ level }) => level === 'debug'), [], 'nothing below the new level');
  const other = await crictl.file('other.json', { metadata: { name: 'o', namespace: 'e2e', uid: 'o-uid', attempt: 0 }, linux: { security_context: { namespace_options: { network: 2 } } } });
  await crictl.run(['runp', '--runtime', 'another', other]);
  assert.equal((await crictl.run(['exec', '-s', id, 'echo', 'still here'])).trim(), 'still here', 'a handler that left the configuration serves the pods that have it');

  // wrong: everything is named, nothing changes; who asks by a signal is answered
  from = (await linesOf(node)).length;
  await writeFile(dropIn, 'log: {level: loud}\ncri:\n  rootDir: here\n');
  hangUp();
  const refused = (await said(node, from, 'the wrong file is refused', ({ level }) => level === 'error')).find(({ level }) => level === 'error');
  assert.equal(refused?.msg, 'configuration refused: everything stays as it was');
  assert.match(refused.why ?? '', /10-test\.yaml:1: log\.level: must be one of[^]*10-test\.yaml:3: cri\.rootDir: must be an absolute path/);

  from = (await linesOf(node)).length;
  await writeFile(dropIn, 'log: {level: debug}\ncri: {conmon: /elsewhere/conmon}\n');
  const last = await said(node, from, 'what needs a restart is named', ({ msg }) => msg.startsWith('needs a restart'));
  assert.deepEqual(last.filter(({ level }) => level === 'warn').map(({ msg }) => msg), ['needs a restart: cri.conmon']);
  await crictl.run(['info']);
  await said(node, from, 'the level is back', ({ level, rpc }) => level === 'debug' && rpc !== undefined);
  assert.equal(await pidOf(), pid);
  await rm(dropIns, { recursive: true });
}));

/** Runs a script on the main thread of a node process that was started with this inspector port. */
async function runInside(pid: number, inspectorPort: number, script: string): Promise<void> {
  process.kill(pid, 'SIGUSR1');
  const targets = await eventually('the inspector answers', () => fetch(`http://127.0.0.1:${inspectorPort}/json`).then((answer) => answer.json(), () => []) as Promise<{ webSocketDebuggerUrl: string }[]>, (seen) => seen.length > 0);
  const socket = new WebSocket(targets[0]?.webSocketDebuggerUrl ?? '');
  await once(socket, 'open');
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: script } }));
  await once(socket, 'message');
  socket.close();
}

/** Several periods without a message, after those that were on their way; returns how many there are. */
async function silence(messages: readonly string[]): Promise<number> {
  await sleep(1000);
  const count = messages.length;
  await sleep(1200);
  assert.deepEqual(messages.slice(count), []);
  return count;
}

test('the watchdog hears of a server that answers, and nothing while clients cannot reach it or it is stuck', what, () => nothingLeft(async () => {
  const socket = `/tmp/e2e-nlt-${randomBytes(6).toString('hex')}.notify`;
  await using manager = await notifySocket(socket, 400);
  const [inspectorPort = 0] = await freePorts(1);
  try {
    await using node = await startNodelet({ mode: 'cri', env: { ...manager.env, NODE_OPTIONS: `--inspect-port=${inspectorPort}` } });
    const { messages } = manager;
    await eventually('signs of life', async () => messages.filter((each) => each.startsWith('WATCHDOG=1')).length, (count) => count >= 3);
    assert.equal(messages.indexOf('READY=1'), 0);
    assert.equal(messages.find((each) => each.includes('STATUS=')), 'WATCHDOG=1;STATUS=0 pods, 0 containers');

    await rename(node.socket, `${node.socket}.away`);
    await eventually('the look at itself fails', () => node.log(), (log) => log.includes('no sign of life for the watchdog'));
    const before = await silence(messages);
    await rename(`${node.socket}.away`, node.socket);
    await eventually('signs of life again', async () => messages.slice(before), (told) => told.includes('WATCHDOG=1'));

    const [stuck, go] = [path.join(node.dir, 'stuck'), path.join(node.dir, 'go')];
    const wait = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)';
    const wedged = runInside(node.pid ?? 0, inspectorPort, `{ const fs = process.getBuiltinModule('fs'); fs.writeFileSync('${stuck}', ''); while (!fs.existsSync('${go}')) ${wait}; }`);
    await eventually('the main thread is stuck', async () => existsSync(stuck), (is) => is);
    const atWedge = await silence(messages);
    await writeFile(go, '');
    await wedged;
    await eventually('signs of life once more', async () => messages.slice(atWedge), (told) => told.includes('WATCHDOG=1'));
    await node.stop();
    assert.match(messages.find((each) => each.startsWith('STOPPING=1')) ?? '', /^STOPPING=1;STATUS=stopping/);
  } finally { await rm(socket, { force: true }); }
}));

const utf8 = (text: string): Buffer => Buffer.concat([Buffer.from([10, text.length]), Buffer.from(text)]);

test('the standard health service says that the server serves', needs(...criNeeds()), () => nothingLeft(async () => {
  await using cri = await startCri();
  const client = new Client(`unix://${cri.socket}`, credentials.createInsecure(), { 'grpc.default_authority': 'localhost' });
  const check = (service: string): Promise<number> => new Promise((resolve, reject) => {
    client.makeUnaryRequest('/grpc.health.v1.Health/Check', utf8, (bytes: Buffer) => bytes, service, (error: ServiceError | null, answer?: Buffer) => {
      if (error === null) resolve(answer?.[1] ?? 0);
      else reject(error);
    });
  });
  try {
    assert.equal(await check(''), 1, 'SERVING');
    await assert.rejects(check('no.such.Service'), { code: 5 });
  } finally { client.close(); }
}));

test('a whole node tells the service manager of both halves, and answers /healthz', what, () => nothingLeft(async () => {
  const [healthzPort = 0] = await freePorts(1);
  await using manager = await notifySocket(randomName(), 2000);
  await using node = await startNodelet({ mode: 'run', agentConfig: { healthzPort }, env: manager.env });
  await eventually('a sign of life', async () => manager.messages, (told) => told.some((each) => /^WATCHDOG=1;STATUS=0 pods, 0 containers; 0 pods wanted$/.test(each)));
  const answer = await fetch(`http://127.0.0.1:${healthzPort}/healthz`);
  assert.deepEqual([answer.status, await answer.text()], [200, 'ok']);
  const from = (await linesOf(node)).length;
  await mkdir(path.join(node.dir, 'config.d'));
  await writeFile(path.join(node.dir, 'config.d/20-agent.yaml'), 'agent: {containerLogMaxFiles: 3, maxPods: 7}\n');
  const lines = await said(node, from, 'the change is told', ({ msg }) => msg.startsWith('needs a restart'));
  assert.deepEqual(lines.filter(({ msg }) => msg === 'configuration taken over').map(({ changed }) => changed), [['agent.containerLogMaxFiles']]);
  assert.deepEqual(lines.filter(({ level }) => level === 'warn').map(({ msg }) => msg), ['needs a restart: agent.maxPods']);
}));

test('systemd finds nothing wrong with the units', needs('systemd-analyze'), async () => {
  const from = path.join(repositoryRoot, 'manifests/systemd');
  const dir = await mkdtemp(path.join(tmpdir(), 'e2e-units-'));
  try {
    for (const name of await readdir(from)) {
      // the program is not installed where the units expect it
      await writeFile(path.join(dir, name), (await readFile(path.join(from, name), 'utf8')).replace(/^ExecStart=\S+/m, 'ExecStart=/bin/true'));
      const { exitCode, stdout, stderr } = await output('systemd-analyze', ['verify', '--man=no', path.join(dir, name)]);
      assert.deepEqual({ name, exitCode, said: stdout + stderr }, { name, exitCode: 0, said: '' });
    }
  } finally { await rm(dir, { recursive: true }); }
});
