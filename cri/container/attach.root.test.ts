/** Attach to a real container's streams through the real monitor: several clients, input and its end, terminal, pace. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import type { ContainerId } from '../state/ids.ts';
import type { ProcessIo } from '../streaming/targets.ts';
import { attach } from './attach.ts';
import { Client } from './client.fake.ts';
import { footprint, missing, shell, testPod, type TestPod } from './pod.fake.ts';

const skip = await missing();

const attachTo = (pod: TestPod, containerId: ContainerId, client: Client, ctx = pod.ctx): Promise<void> => attach(ctx, pod, { containerId, tty: pod.containers.get(containerId).config.tty }, client);

test('two clients see both outputs, either may send, and both are let go when the container ends', { skip }, async () => {
  const before = await footprint();
  {
    await using pod = await testPod();
    const id = await pod.run(shell('while read l; do echo "got $l"; echo "err $l" >&2; [ "$l" = quit ] && exit 3; done', { stdin: true }));
    const [one, two] = [new Client(), new Client()];
    const ended = Promise.all([attachTo(pod, id, one), attachTo(pod, id, two)]);
    one.stdin.write('ping\n');
    await Promise.all([one.saw(/got ping\n/), two.saw(/got ping\n/)]);
    two.stdin.write('quit\n');
    await ended;
    for (const client of [one, two]) assert.deepEqual([client.text, client.stderr.bytes().toString()], ['got ping\ngot quit\n', 'err ping\nerr quit\n']);
    assert.equal((await pod.ended(id)).exitCode, 3);
    await assert.rejects(attachTo(pod, id, one), { kind: 'precondition', message: /is not running/ });
  }
  assert.deepEqual(await footprint(), before);
});

test('the end of the input reaches a container that takes it once, and everything it then wrote reaches the client', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('cat | wc -c; dd if=/dev/zero bs=1k count=3000; echo; echo done', { stdin: true, stdinOnce: true }));
  const client = new Client();
  const ended = attachTo(pod, id, client);
  client.stdin.end(Buffer.alloc(1_000_000));
  await ended;
  assert.match(client.text, /^1000000\n/);
  assert.ok(client.text.endsWith('\ndone\n'));
  assert.equal(client.text.length, '1000000\n'.length + 3000 * 1024 + '\ndone\n'.length);
});

test('a container that keeps its input goes on when a client has ended it or gone away', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('while read l; do echo "got $l"; done; echo eof', { stdin: true }));
  const [first, second] = [new Client(), new Client()];
  const gone = new AbortController();
  const ended = attachTo(pod, id, first, { ...quietCtx(), signal: gone.signal });
  first.stdin.end('one\n');
  await first.saw(/got one/);
  void attachTo(pod, id, second).catch(() => undefined);
  second.stdin.write('two\n');
  await Promise.all([first.saw(/got two/), second.saw(/got two/)]);
  gone.abort();
  await assert.rejects(ended, { kind: 'canceled' });
  second.stdin.write('three\n');
  await second.saw(/got three/);
});

test('input for a container without one is dropped', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('until [ -e /go ]; do sleep 0.02; done; cat; echo done'));
  const client = new Client();
  const ended = attachTo(pod, id, client);
  client.stdin.end(Buffer.alloc(1_000_000));
  await pod.exec(id, ['/bin/touch', '/go']);
  await ended;
  assert.equal(client.text, 'done\n');
});

test('a terminal gets the sizes of its client, the last of many too', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('while read l; do stty size; done', { stdin: true, tty: true }));
  const client = new Client();
  void attachTo(pod, id, client).catch(() => undefined);
  for (let columns = 90; columns < 100; columns++) client.sizes.write({ columns, rows: 33 });
  while (!/33 99\r\n/.test(client.text)) {
    client.stdin.write('\n');
    await sleep(20);
  }
  assert.equal(client.stderr.bytes().length, 0);
});

const outputTo = (stdout: Writable): ProcessIo => ({ stdin: undefined, stdout, stderr: undefined, resizes: new Client().resizes });

const ticks = async (path: string): Promise<number> => (await readFile(path, 'utf8')).split('\n').filter((line) => line.endsWith(' tick')).length;

test('a client that reads nothing any more is sent away, and the container, its log and another client go on', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('while [ ! -e /go ]; do sleep 0.02; done; dd if=/dev/zero bs=1k count=4000; echo; while :; do echo tick; sleep 0.02; done'));
  const reader = new Client();
  const deaf = new Writable({ write: () => undefined });
  const sentAway = attach(pod.ctx, pod, { containerId: id, tty: false }, outputTo(deaf));
  void attachTo(pod, id, reader).catch(() => undefined);
  await pod.exec(id, ['/bin/touch', '/go']);
  await assert.rejects(sentAway, { kind: 'exhausted', message: /attach to container/ });
  assert.ok(deaf.writableLength < 2_000_000, `${deaf.writableLength} bytes are kept for it`);
  await reader.saw(/tick\ntick\n/);
  while ((await ticks(pod.containers.get(id).logPath!)) < 3) await sleep(10);
});

test('a client that reads slowly slows the container and loses nothing', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('while [ ! -e /go ]; do sleep 0.02; done; dd if=/dev/zero bs=1k count=4000'));
  let bytes = 0;
  const slow = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      bytes += chunk.length;
      setTimeout(done, 1);
    },
  });
  const ended = attach(pod.ctx, pod, { containerId: id, tty: false }, outputTo(slow));
  await pod.exec(id, ['/bin/touch', '/go']);
  await ended;
  await new Promise<void>((resolve) => slow.end(resolve));
  assert.equal(bytes, 4000 * 1024);
});
