/** Streams under strain, with crictl as the client: much data, many connections, and clients that vanish or do not read. crictl-streams.test.ts has the everyday. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { runContainer, withCri } from '../harness/crictl-walk.ts';
import { criNeeds } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import type { Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

/** containerd 2.4 speaks no version of the WebSocket protocols that crictl speaks. */
const dialects = process.env['E2E_CRI'] === 'containerd' ? (['spdy'] as const) : (['spdy', 'websocket'] as const);

const idle = ['sh', '-c', 'trap "exit 0" TERM; while true; do sleep 0.2; done'];

/** crictl as a child whose pid is its own. */
const child = (crictl: Crictl, args: readonly string[]): ChildProcess => spawn('sh', ['-c', `exec ${crictl.commandLine(args)}`], { stdio: 'pipe' });

/** Whether this command, word for word, runs anywhere on the machine. */
function isRunning(...command: readonly string[]): boolean {
  return readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `${command.join('\0')}\0`;
    } catch { return false; } // it ended meanwhile
  });
}

test('bytes arrive whole in both directions, and a command need not read what it is sent', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const { id } = await runContainer(crictl, cri, { name: 'bytes', command: idle });
  const bytes = randomBytes(3_000_000);
  for (const dialect of dialects) {
    const cat = child(crictl, ['exec', '-i', '-r', dialect, id, 'cat']);
    const received: Buffer[] = [];
    cat.stdout?.on('data', (chunk: Buffer) => received.push(chunk));
    cat.stdin?.end(bytes);
    assert.equal((await once(cat, 'close'))[0], 0);
    assert.equal(createHash('sha256').update(Buffer.concat(received)).digest('hex'), createHash('sha256').update(bytes).digest('hex'), dialect);
    // containerd 2.4 waits for ever here.
    if (cri.name === 'nodelet') assert.equal(await crictl.run(['exec', '-i', '-r', dialect, id, 'head', '-n', '1'], { stdin: 'first\n'.repeat(500_000) }), 'first\n');
    const silent = await crictl.output(['exec', '-r', dialect, id, 'sh', '-c', 'exit 9']);
    assert.match(silent.stderr, /exit code 9/);
    const missing = await crictl.output(['exec', '-r', dialect, id, '/no/such/program']);
    assert.match(missing.stderr, /no such file or directory/i);
  }
}));

/** Sends `bytes`, says that this was all, and returns the answer. */
async function exchange(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const received: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => received.push(chunk));
  socket.end(bytes);
  await once(socket, 'end');
  return Buffer.concat(received);
}

/** One server per port, since that of the test image resets connections that come while it is busy. */
const ports = [9000, 9001, 9002, 9003, 9004, 9005];

test('many connections are forwarded at once, and each direction ends on its own', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const { pod } = await runContainer(crictl, cri, { name: 'ports', command: ['sh', '-c', `for port in ${ports.join(' ')}; do nc -ll -p $port -e cat & done; wait`] });
  for (const dialect of dialects) {
    await using tunnel = crictl.start(['port-forward', '-r', dialect, pod, ...ports.map((port) => `:${port}`)]);
    const sent = ports.map(() => randomBytes(400_000));
    const locals = await Promise.all(ports.map(async (port) => Number((await tunnel.says(new RegExp(`127\\.0\\.0\\.1:(\\d+) -> ${port}`)))[1])));
    const received = await Promise.all(locals.map((local, i) => exchange(local, sent[i] ?? Buffer.alloc(0))));
    assert.deepEqual(received.map((bytes, i) => bytes.equals(sent[i] ?? bytes.subarray(1))), sent.map(() => true), `${dialect}: ${tunnel.said}`);
  }
  await using nobody = crictl.start(['port-forward', pod, ':9009']);
  const [, port] = await nobody.says(/127\.0\.0\.1:(\d+) -> 9009/);
  await exchange(Number(port), Buffer.from('anybody?'));
  await nobody.says(/9009.*refused/s);
}));

test('what a vanished client ran goes with it', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const { id } = await runContainer(crictl, cri, { name: 'vanish', command: idle });
  const commands: string[][] = [];
  const clients = dialects.flatMap((dialect, i) => {
    const start = (seconds: number, ...flags: readonly string[]): ChildProcess => {
      commands.push(['sleep', `${seconds + i}${process.pid}`]);
      return child(crictl, ['exec', ...flags, '-r', dialect, id, ...commands.at(-1) ?? []]);
    };
    const plain = start(310);
    if (cri.name === 'containerd') return [plain];
    // A stream of input that nobody reads hides the client's end; containerd does not see it.
    const flooding = start(320, '-i');
    flooding.stdin?.on('error', () => undefined);
    flooding.stdin?.write(Buffer.alloc(64 << 20));
    return [plain, flooding];
  });
  await eventually('all commands run', () => commands.every((command) => isRunning(...command)));
  for (const client of clients) client.kill('SIGKILL');
  await eventually('none runs', () => commands.filter((command) => isRunning(...command)), (running) => running.length === 0);
}));

const residentBytes = (pid: number | undefined): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

test('output of any length passes through bounded memory, and a client that stops reading holds up nobody else', needs(...criNeeds()), () => withCri(async (crictl, cri) => {
  const { id } = await runContainer(crictl, cri, { name: 'flood', command: idle });
  for (const dialect of dialects) {
    const before = residentBytes(cri.pid);
    let highest = before;
    let seen = 0;
    const flood = child(crictl, ['exec', '-r', dialect, id, 'cat', '/dev/zero']);
    flood.stdout?.on('data', (chunk: Buffer) => {
      seen += chunk.length;
      highest = Math.max(highest, residentBytes(cri.pid));
    });
    await eventually('320 MiB came', () => seen, (bytes) => bytes > 320 << 20, { everyMs: 20 });
    assert.ok(highest - before < 200 << 20, `${dialect}: the daemon grew by ${highest - before} bytes`);
    flood.stdout?.pause();
    assert.equal(await crictl.run(['exec', '-r', dialect, id, 'echo', 'not held up']), 'not held up\n');
    flood.kill('SIGKILL');
    await eventually('the command is gone', () => !isRunning('cat', '/dev/zero'));
  }
}));
