/** What kubectl does with streams: exec, cp, port-forward, attach; for pods.test.ts, which runs it on every kind of node. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { eventually } from '../harness/eventually.ts';
import { output, type Kubectl } from '../harness/shell.ts';

interface Stage { readonly kubectl: Kubectl }
interface Node { status: { addresses: { type: string; address: string }[]; daemonEndpoints: { kubeletEndpoint: { Port: number } } } }
interface Pod {
  spec: { nodeName: string };
  status: { phase: string; containerStatuses?: { name: string; ready: boolean; state: { terminated?: { exitCode: number } } }[] };
}

const manifest = path.join(import.meta.dirname, '../../manifests/pods/streams.yaml');
const pod = ({ kubectl }: Stage): Promise<Pod> => kubectl.json<Pod>(['get', 'pod', 'streams']);
const web = (...command: readonly string[]): string[] => ['exec', 'streams', '-c', 'web', ...command];
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export async function streams(stage: Stage): Promise<void> {
  await stage.kubectl.run(['apply', '-f', manifest]);
  await eventually('pod streams is ready', () => pod(stage), ({ status }) => status.containerStatuses?.length === 2 && status.containerStatuses.every(({ ready }) => ready));
  await exec(stage);
  await terminal(stage);
  await copy(stage);
  await forward(stage);
  await strangers(stage);
  await attach(stage);
  await stage.kubectl.run(['delete', 'pod', 'streams', '--timeout', '100s']);
}

/** By websocket, as kubectl prefers, and by SPDY, its way back. */
const dialects = [{}, { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false', KUBECTL_PORT_FORWARD_WEBSOCKETS: 'false' }] as const;

async function exec({ kubectl }: Stage): Promise<void> {
  for (const env of dialects) {
    const { exitCode, stdout, stderr } = await kubectl.output(web('--', 'sh', '-c', 'echo out; echo err >&2; exit 7'), { env });
    assert.deepEqual([exitCode, stdout, stderr], [7, 'out\n', 'err\ncommand terminated with exit code 7\n']);
    assert.equal(await kubectl.run(web('-i', '--', 'sh', '-c', 'wc -c; echo end'), { env, stdin: 'x'.repeat(1_000_000) }), '1000000\nend\n');
  }
  const nope = await kubectl.output(web('--', 'nope'));
  assert.notEqual(nope.exitCode, 0);
  assert.match(nope.stderr, /"?nope"?.*(not found|no such file)/i);
}

async function terminal({ kubectl }: Stage): Promise<void> {
  const line = kubectl.commandLine(web('-it', '--', 'sh', '-c', 'until [ "$(stty size)" = "33 99" ]; do sleep 0.1; done; tty; echo err >&2; exit 5'));
  const { exitCode, stdout } = await output('script', ['-qec', `stty rows 33 cols 99; ${line}`, '/dev/null'], { env: { KUBECONFIG: undefined } });
  assert.match(stdout, /\/dev\/pts\/\d+\r\nerr\r\n/);
  assert.equal(exitCode, 5);
}

async function copy({ kubectl }: Stage): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'e2e-cp-'));
  try {
    const bytes = randomBytes(5_000_000);
    await writeFile(path.join(dir, 'there'), bytes);
    await kubectl.run(['cp', path.join(dir, 'there'), 'streams:/tmp/file', '-c', 'web']);
    await kubectl.run(['cp', 'streams:/tmp/file', path.join(dir, 'back'), '-c', 'web']);
    assert.equal(sha(await readFile(path.join(dir, 'back'))), sha(bytes));
  } finally {
    await rm(dir, { recursive: true });
  }
}

async function forward({ kubectl }: Stage): Promise<void> {
  for (const env of dialects) {
    await using tunnel = kubectl.start(['port-forward', 'pod/streams', ':8080', ':81'], { env });
    const [, port] = await tunnel.says(/127\.0\.0\.1:(\d+) -> 8080/);
    const [, closed] = await tunnel.says(/127\.0\.0\.1:(\d+) -> 81\n/);
    const pages = await Promise.all(Array.from({ length: 5 }, async () => (await fetch(`http://127.0.0.1:${port}/`)).text()));
    assert.deepEqual(new Set(pages), new Set(['hello from inside\n']));
    await assert.rejects(fetch(`http://127.0.0.1:${closed}/`));
    await tunnel.says(/failed to connect to localhost:81 inside namespace .*connection refused/);
  }
}

/** Who comes to the node without a certificate is not known, and an account without rights may nothing. */
async function strangers(stage: Stage): Promise<void> {
  const { kubectl } = stage;
  const { status } = await kubectl.json<Node>(['get', 'node', (await pod(stage)).spec.nodeName]);
  const host = status.addresses.find(({ type }) => type === 'InternalIP')?.address;
  const token = (await kubectl.run(['create', 'token', 'default'])).trim();
  const ask = async (authorization: string | undefined): Promise<number | undefined> => await new Promise((resolve, reject) => {
    const upgrade = { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': 'v4.channel.k8s.io' };
    const call = request({
      host, port: status.daemonEndpoints.kubeletEndpoint.Port, path: '/exec/default/streams/web?command=id&output=1', method: 'POST', rejectUnauthorized: false, agent: false,
      headers: { ...upgrade, ...(authorization === undefined ? {} : { authorization }) },
    }, (answer) => { answer.resume(); resolve(answer.statusCode); });
    call.on('upgrade', (_, socket) => { socket.destroy(); resolve(101); }).on('error', reject).end();
  });
  assert.deepEqual([await ask(undefined), await ask('Bearer nonsense'), await ask(`Bearer ${token}`)], [401, 401, 403]);
}

async function attach(stage: Stage): Promise<void> {
  const args = ['attach', 'streams', '-c', 'echo', '-i'];
  await using one = stage.kubectl.start(args);
  await using other = stage.kubectl.start(args);
  // A client sees what is written after it came.
  await eventually('both hear', () => {
    one.write('hello\n');
    return [one.said, other.said];
  }, (all) => all.every((text) => text.includes('heard hello\n')));
  other.write('quit\n');
  await Promise.all([one, other].map((client) => client.says(/heard quit\n[^]*err quit\n|err quit\n[^]*heard quit\n/)));
  await Promise.all([one.exitCode, other.exitCode]);
  await eventually('the container has ended', () => pod(stage), ({ status }) => status.containerStatuses?.find(({ name }) => name === 'echo')?.state.terminated?.exitCode === 3);
}
