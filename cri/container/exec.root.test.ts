/** Exec into a real container by a client of the test's own: streams, terminal, pace, and what becomes of the command when somebody goes away. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Writable } from 'node:stream';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { quietCtx } from '#host/log.ts';
import { identify } from '#host/process.ts';
import type { ProcessIo } from '../streaming/targets.ts';
import { Client } from './client.fake.ts';
import { exec, type ExecDeps } from './exec.ts';
import { killLeftoverExecs } from './leftover-execs.ts';
import { footprint, missing, shell, testPod, type TestPod } from './pod.fake.ts';

const skip = await missing();

const depsOf = (pod: TestPod): ExecDeps & { containers: TestPod['containers'] } => ({ containers: pod.containers, runtimeOf: () => pod.runtime, cgroups: pod.cgroups, scratchDir: join(pod.paths.stateDir, 'exec') });

interface Order {
  readonly script: string;
  readonly tty?: boolean;
  readonly ctx?: Ctx;
}
/** In a fresh container that does nothing. */
async function execIn(pod: TestPod, io: ProcessIo, { script, tty = false, ctx = pod.ctx }: Order): Promise<number> {
  const containerId = pod.containers.list()[0]?.id ?? (await pod.run(shell('sleep 1000')));
  return exec(ctx, depsOf(pod), { containerId, command: ['/bin/sh', '-c', script], tty }, io);
}

const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isSo())) await sleep(10);
};

const ps = async (pod: TestPod): Promise<string> => Buffer.from((await pod.exec(pod.containers.list()[0]!.id, ['/bin/ps'])).stdout).toString('utf8');

test('a command gets what the client sends and its end, both outputs come back apart, the exit code is its own, and nothing stays', { skip }, async () => {
  const before = await footprint();
  {
    await using pod = await testPod();
    const client = new Client();
    client.stdin.end('one\ntwo\n');
    assert.equal(await execIn(pod, client, { script: 'cat; echo eof; echo oops >&2; exit 7' }), 7);
    assert.deepEqual([client.text, client.stderr.bytes().toString()], ['one\ntwo\neof\n', 'oops\n']);
    assert.deepEqual(readdirSync(depsOf(pod).scratchDir), []);
  }
  assert.deepEqual(await footprint(), before);
});

test('a terminal has the size that the client sent first, and then the next; input is echoed; its streams are one', { skip }, async () => {
  await using pod = await testPod();
  const client = new Client();
  client.sizes.write({ columns: 99, rows: 33 });
  const ended = execIn(pod, { stdin: client.stdin, stdout: client.stdout, stderr: undefined, resizes: client.resizes }, {
    script: 'until [ "$(stty size 2>&1)" = "33 99" ]; do sleep 0.02; done; stty size; echo err >&2; read x; until [ "$(stty size)" = "40 120" ]; do sleep 0.02; done; echo "got $x"; exit 9', tty: true,
  });
  await client.saw(/33 99\r\nerr\r\n/);
  client.sizes.write({ columns: 120, rows: 40 });
  client.stdin.write('hello\n');
  assert.equal(await ended, 9);
  assert.equal(client.text, '33 99\r\nerr\r\nhello\r\ngot hello\r\n');
});

test('a program that does not exist is told with the words of the runtime, with a terminal too', { skip }, async () => {
  await using pod = await testPod();
  const containerId = await pod.run(shell('sleep 1000'));
  for (const tty of [false, true]) {
    const client = new Client();
    await assert.rejects(exec(pod.ctx, depsOf(pod), { containerId, command: ['nope'], tty }, client), { kind: 'internal', message: /nope.*(not found|no such file)/i });
    assert.deepEqual([client.text, client.stderr.bytes().toString()], ['', '']);
  }
  assert.deepEqual(readdirSync(depsOf(pod).scratchDir), []);
});

test('a slow client stops the command instead of filling our memory, and gets every byte', { skip }, async () => {
  await using pod = await testPod();
  let bytes = 0;
  const gate = Promise.withResolvers<void>();
  const stdout = new Writable({
    highWaterMark: 16_384,
    write: (chunk: Buffer, _encoding, done) => {
      bytes += chunk.length;
      void gate.promise.then(() => done());
    },
  });
  const client = new Client();
  const ended = execIn(pod, { stdin: undefined, stdout, stderr: client.stderr, resizes: client.resizes }, { script: 'dd if=/dev/zero bs=64k count=1600; touch /done' });
  await until(() => bytes > 0);
  // As long as the pipe is full the command cannot end.
  await sleep(300);
  assert.ok(bytes < 1_000_000, `${bytes} bytes were read ahead`);
  assert.match(await ps(pod), /dd if/);
  gate.resolve();
  assert.equal(await ended, 0);
  assert.equal(bytes, 1600 * 65_536);
});

for (const tty of [false, true]) {
  test(`a client that goes away takes the command and its descendants with it${tty ? ', with a terminal' : ''}`, { skip }, async () => {
    await using pod = await testPod();
    const gone = new AbortController();
    const client = new Client();
    const script = 'trap "" HUP TERM; sleep 4321 & (setsid sleep 4322; true) & echo here; sleep 4323; true';
    const ended = execIn(pod, client, { script, tty, ctx: { ...quietCtx(), signal: gone.signal } });
    await client.saw(/here/);
    gone.abort();
    await assert.rejects(ended, { kind: 'canceled' });
    assert.doesNotMatch(await ps(pod), /432/);
  });

  test(`a descendant that keeps the output open is neither waited for nor killed${tty ? ', with a terminal' : ''}`, { skip }, async () => {
    await using pod = await testPod();
    const client = new Client();
    // A terminal's end hangs up on those who are left in its session.
    assert.equal(await execIn(pod, client, { script: `${tty ? 'trap "" HUP; ' : ''}sleep 4324 & yes | head -c 100000; exit 4`, tty }), 4);
    assert.equal(client.text.replaceAll('\r', '').length, 100_000);
    assert.match(await ps(pod), /sleep 4324/);
  });
}

test('a command that closed its input does not hold up the client', { skip }, async () => {
  await using pod = await testPod();
  const client = new Client();
  const ended = execIn(pod, client, { script: 'exec 0<&-; echo closed; until [ -e /go ]; do sleep 0.02; done' });
  await client.saw(/closed/);
  for (let i = 0; i < 50; i++) if (!client.stdin.write(Buffer.alloc(65_536))) await new Promise((resolve) => client.stdin.once('drain', resolve));
  await pod.exec(pod.containers.list()[0]!.id, ['/bin/touch', '/go']);
  assert.equal(await ended, 0);
});

test('commands that outlived a killed daemon are killed by the next one, and nobody else is', { skip }, async () => {
  await using pod = await testPod();
  const deps = depsOf(pod);
  await pod.run(shell('sleep 1000'));
  const ended = execIn(pod, new Client(), { script: 'sleep 4325 & sleep 4326; true' });
  await until(async () => /4325[^]*4326|4326[^]*4325/.test(await ps(pod)));
  const { id, process: main } = pod.containers.list()[0]!;
  // What a kill at another moment leaves: a pid alone, which by now is somebody else's.
  writeFileSync(join(deps.scratchDir, `${id}.1.pid`), String(process.pid));
  writeFileSync(join(deps.scratchDir, `${id}.2.pid`), String(main!.pid));
  writeFileSync(join(deps.scratchDir, 'gone.3.pid'), String(main!.pid));
  writeFileSync(join(deps.scratchDir, `${id}.4.json`), '{');
  await killLeftoverExecs(pod.ctx, deps);
  await killLeftoverExecs(pod.ctx, deps);
  assert.equal(await ended, 137);
  assert.doesNotMatch(await ps(pod), /432/);
  assert.deepEqual(readdirSync(deps.scratchDir), []);
  assert.notEqual(identify(main!.pid), undefined);
  assert.equal(pod.containers.get(id).state.name, 'running');
});
