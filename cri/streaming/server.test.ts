/** The streaming server from outside: a SPDY client, Node's WebSocket client, and plain requests, on targets in memory. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AttachRequest, ExecRequest, PortForwardRequest } from '#cri-api';
import { isFault } from '#host/fault.ts';
import { eventually } from './eventually.fake.ts';
import { FakeSpdyClient, type FakeStream } from './spdy/client.fake.ts';
import { ask, fakeServer, spdyClient, spdyHeaders, tunnelTo, webSocketClient } from './targets.fake.ts';

const all = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io'];

/** Opens the streams of an exec, and returns what came on each when the server has ended them. */
async function readAll(client: FakeSpdyClient, names: readonly string[], stdin?: string): Promise<Record<string, string>> {
  const streams = new Map(names.map((name): [string, FakeStream] => [name, client.open({ streamType: name })]));
  if (stdin !== undefined) {
    streams.get('stdin')?.write(stdin);
    streams.get('stdin')?.end();
  }
  await eventually(() => assert.ok([...streams.values()].every((each) => each.isEnded), 'all streams are ended'));
  client.socket.end();
  return Object.fromEntries([...streams].map(([name, { received }]) => [name, received.toString()]));
}

test('a URL works once, for its own kind, and only upgraded', async () => {
  await using server = await fakeServer();
  const url = server.execUrl(['exit', '0']);
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/exec\/[\w-]{43}$/);
  assert.equal((await ask(url.replace('/exec/', '/attach/'), spdyHeaders(...all))).status, 404);
  assert.equal((await ask(url, spdyHeaders(...all))).status, 404, 'a token is spent by the first who tries');
  const other = server.execUrl(['exit', '0']);
  assert.equal((await ask(other, {}, 'GET')).status, 400);
  assert.equal((await ask(server.execUrl(['exit', '0']), { Connection: 'Upgrade', Upgrade: 'h2c' })).status, 400);
  const refused = await ask(server.execUrl(['exit', '0']), spdyHeaders('v9.channel.k8s.io'));
  assert.deepEqual([refused.status, refused.headers['x-accepted-stream-protocol-versions']], [403, all.join(', ')]);
  const base = url.slice(0, url.indexOf('/exec/'));
  for (const path of ['/exec/nothing', '/exec/', '/', '/exec/../exec/x']) assert.equal((await ask(base + path, spdyHeaders(...all))).status, 404);
});

test('requests that cannot be are refused', async () => {
  await using server = await fakeServer();
  const cases: readonly (readonly [string, () => string])[] = [
    ['tty with stderr', () => server.exec(ExecRequest.create({ containerId: 'c', cmd: ['x'], tty: true, stderr: true }))],
    ['no stream', () => server.exec(ExecRequest.create({ containerId: 'c', cmd: ['x'] }))],
    ['no command', () => server.exec(ExecRequest.create({ containerId: 'c', stdout: true }))],
    ['no container', () => server.attach(AttachRequest.create({ stdout: true }))],
    ['no sandbox', () => server.portForward(PortForwardRequest.create())],
    ['port 0', () => server.portForward(PortForwardRequest.create({ podSandboxId: 's', port: [0] }))],
    ['200 ports', () => server.portForward(PortForwardRequest.create({ podSandboxId: 's', port: new Array<number>(200).fill(80) }))],
  ];
  for (const [name, issue] of cases) assert.throws(issue, (error) => isFault(error, 'invalid'), name);
});

const exitStatus = { metadata: {}, status: 'Failure', reason: 'NonZeroExitCode', message: 'command terminated with non-zero exit code: exit status 3', details: { causes: [{ reason: 'ExitCode', message: '3' }] } };
const failed = 'Internal error occurred: error executing command in container: no such file';

test('exec over SPDY tells its outcome in the way of each version', async () => {
  await using server = await fakeServer();
  for (const protocol of ['', ...all]) {
    const isJson = /^v[45]/.test(protocol);
    const outcome = async (...command: string[]): Promise<string> => {
      const client = await spdyClient(server.execUrl(command), ...(protocol === '' ? [] : [protocol]));
      return (await readAll(client, ['error', 'stdout', 'stderr']))['error'] ?? '';
    };
    const [success, exit, failure] = [await outcome('exit', '0'), await outcome('exit', '3'), await outcome('fail', 'no such file')];
    if (isJson) {
      assert.deepEqual([JSON.parse(success), JSON.parse(exit)], [{ metadata: {}, status: 'Success', message: '' }, exitStatus], protocol);
      assert.equal((JSON.parse(failure) as { message: string }).message, failed, protocol);
    } else assert.deepEqual([success, exit, failure], ['', exitStatus.message, failed], protocol);
  }
});

test('exec over SPDY carries input, its end, and both outputs', async () => {
  await using server = await fakeServer();
  const cat = await readAll(await spdyClient(server.execUrl(['cat'], { stdin: true }), ...all), ['error', 'stdin', 'stdout', 'stderr'], 'words\n');
  assert.deepEqual([cat['stdout'], cat['stderr']], ['words\n', '']);
  const both = await readAll(await spdyClient(server.execUrl(['both']), ...all), ['error', 'stdout', 'stderr']);
  assert.deepEqual([both['stdout'], both['stderr']], ['to stdout', 'to stderr']);
  const attached = await readAll(await spdyClient(server.attachUrl(), ...all), ['error', 'stdout']);
  assert.equal(attached['stdout'], 'attached to c');
});

test('exec over SPDY refuses a stream that is none of the five, and one that is there already', async () => {
  await using server = await fakeServer();
  const client = await spdyClient(server.execUrl(['hang']), ...all);
  const [error, other, again] = ['error', 'other', 'error'].map((name) => client.open({ streamType: name }));
  await eventually(() => assert.deepEqual([error!.isReplied, other!.isReset, again!.isReset], [true, true, true]));
  client.socket.destroy();
});

test('exec over WebSocket speaks every subprotocol, and closes normally', async () => {
  await using server = await fakeServer();
  for (const protocol of ['', 'channel.k8s.io', 'base64.channel.k8s.io', 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io', 'v5.channel.k8s.io']) {
    const client = await webSocketClient(server.execUrl(['both']), protocol === '' ? [] : [protocol]);
    await eventually(() => assert.equal(client.closedWith, 1000, protocol));
    assert.equal(client.socket.protocol, protocol);
    assert.equal(client.messages[0]?.toString(), protocol.includes('base64') ? '1' : '\x01', 'an empty message on stdout comes first');
    assert.deepEqual([client.channels.get(1), client.channels.get(2)], ['to stdout', 'to stderr'], protocol);
    assert.equal(client.channels.get(3), /^v[45]/.test(protocol) ? '{"metadata":{},"status":"Success","message":""}' : undefined, protocol);
  }
  await assert.rejects(webSocketClient(server.execUrl(['both']), ['v9.channel.k8s.io']));
});

test('version 5 half-closes input in a WebSocket; base64 arrives decoded', async () => {
  await using server = await fakeServer();
  const v5 = await webSocketClient(server.execUrl(['cat'], { stdin: true }), ['v5.channel.k8s.io', 'v4.channel.k8s.io']);
  v5.socket.send(Buffer.from('\0some words'));
  v5.socket.send(Buffer.from([255, 0]));
  await eventually(() => assert.deepEqual([v5.channels.get(1), v5.closedWith], ['some words', 1000]));
  const base64 = await webSocketClient(server.execUrl(['cat'], { stdin: true }), ['v4.base64.channel.k8s.io']);
  base64.socket.send(`0${Buffer.from('some words').toString('base64')}`);
  await eventually(() => assert.equal(base64.channels.get(1), 'some words'));
  base64.socket.close();
});

test('the sizes of a terminal arrive over both transports', async () => {
  await using server = await fakeServer();
  const spdy = await spdyClient(server.execUrl(['sizes'], { tty: true, stdin: true }), ...all);
  const [resize] = ['resize', 'error', 'stdin', 'stdout'].map((name) => spdy.open({ streamType: name }));
  resize!.write('{"Width":80,"Height":24}\n');
  await eventually(() => assert.deepEqual(server.targets.sizes, [{ columns: 80, rows: 24 }]));
  resize!.write('{"Width":1,"Height":1}\n{"Width":100,"Hei');
  resize!.write('ght":50}\n');
  await eventually(() => assert.ok(spdy.isGoneAway));
  spdy.socket.end();
  server.targets.sizes.length = 0;
  const socket = await webSocketClient(server.execUrl(['sizes'], { tty: true, stdin: true }), ['v4.channel.k8s.io']);
  socket.socket.send(Buffer.from('\x04{"Width":120,"Height":40}'));
  await eventually(() => assert.deepEqual(server.targets.sizes, [{ columns: 120, rows: 40 }]));
  socket.socket.close();
});

const forward = (client: FakeSpdyClient, port: number, id: number): [data: FakeStream, error: FakeStream] => {
  const headers = { port: String(port), requestID: String(id) };
  const error = client.open({ streamType: 'error', ...headers });
  error.end();
  return [client.open({ streamType: 'data', ...headers }), error];
};

test('ports are forwarded over SPDY and through a WebSocket, many connections at once, each half closed on its own', async () => {
  await using server = await fakeServer();
  for (const client of [await spdyClient(server.portsUrl(), 'portforward.k8s.io'), new FakeSpdyClient(await tunnelTo(server.portsUrl()))]) {
    const connections = Array.from({ length: 20 }, (_, i) => forward(client, 7, i));
    connections.forEach(([data], i) => data.write(`word ${i}`));
    await eventually(() => assert.deepEqual(connections.map(([data]) => data.received.toString()), connections.map((_, i) => `WORD ${i}`)));
    connections.forEach(([data]) => data.end());
    await eventually(() => assert.ok(connections.every(([data, error]) => data.isEnded && error.isEnded && error.received.length === 0)));
    const [data, error] = forward(client, 1, 99);
    await eventually(() => assert.deepEqual([error.received.toString(), error.isEnded, data.isEnded], ['error forwarding port 1: connection refused', true, true]));
    const bad = client.open({ streamType: 'data', port: '99999', requestID: 'x' });
    await eventually(() => assert.ok(bad.isReset));
    client.ping(1);
    await eventually(() => assert.deepEqual(client.pongs, [1]));
    client.socket.destroy();
  }
});

test('half a connection that was reset is forgotten, and its name can be used again', async () => {
  await using server = await fakeServer();
  const client = await spdyClient(server.portsUrl(), 'portforward.k8s.io');
  const half = client.open({ streamType: 'error', port: '7', requestID: '1' });
  await eventually(() => assert.ok(half.isReplied));
  half.reset();
  client.ping(1);
  await eventually(() => assert.deepEqual(client.pongs, [1]));
  const [data, error] = forward(client, 7, 1);
  data.write('word');
  await eventually(() => assert.deepEqual([data.received.toString(), error.isReplied, error.isReset], ['WORD', true, false]));
  client.socket.destroy();
});

test('the old WebSocket way of port forwarding names each port first', async () => {
  await using server = await fakeServer();
  const client = await webSocketClient(server.portsUrl([7, 1]), ['v4.channel.k8s.io']);
  client.socket.send(Buffer.from('\0words'));
  await eventually(() => assert.deepEqual([0, 1, 2, 3].map((channel) => client.channels.get(channel)), ['\x07\0WORDS', '\x07\0', '\x01\0', '\x01\0error forwarding port 1: connection refused']));
  client.socket.close();
});

test('a client that goes away ends what it runs, and so does the server\'s stop', async () => {
  await using server = await fakeServer();
  const hang = async (): Promise<FakeSpdyClient> => {
    const client = await spdyClient(server.execUrl(['hang']), ...all);
    const streams = ['error', 'stdout', 'stderr'].map((name) => client.open({ streamType: name }));
    await eventually(() => assert.ok(streams.every((each) => each.isReplied)));
    return client;
  };
  (await hang()).socket.destroy();
  await eventually(() => assert.deepEqual(server.targets.aborted, ['hang']));
  const socket = await webSocketClient(server.execUrl(['hang']), ['v5.channel.k8s.io']);
  socket.socket.close();
  await eventually(() => assert.deepEqual(server.targets.aborted, ['hang', 'hang']));
  const last = await hang();
  await server.stop();
  assert.deepEqual(server.targets.aborted, ['hang', 'hang', 'hang']);
  await eventually(() => assert.ok(last.socket.destroyed));
  await assert.rejects(ask(server.execUrl(['exit', '0']), spdyHeaders(...all)), 'nobody listens any more');
});

test('a stream on which nothing moves is closed', async () => {
  await using server = await fakeServer({ idleTimeoutMs: 50 });
  const client = await spdyClient(server.execUrl(['hang']), ...all);
  for (const name of ['error', 'stdout', 'stderr']) client.open({ streamType: name });
  await eventually(() => assert.deepEqual([server.targets.aborted, client.socket.destroyed], [['hang'], true]));
  assert.ok(server.log.some((line) => line.includes('idle for too long')));
});

test('a client that does not read makes the program wait, and nobody else', async () => {
  await using server = await fakeServer();
  const { socket } = await ask(server.execUrl(['flood']), spdyHeaders(...all));
  const sender = new FakeSpdyClient(socket!);
  for (const name of ['error', 'stdout', 'stderr']) sender.open({ streamType: name });
  await eventually(() => assert.ok(server.targets.floodedBytes > 0));
  socket!.pause();
  let before = -1;
  await eventually(async () => {
    const now = server.targets.floodedBytes;
    const stood = now === before;
    before = now;
    await readAll(await spdyClient(server.execUrl(['both']), ...all), ['error', 'stdout', 'stderr']);
    assert.ok(stood, 'the program stands still while others come and go');
  });
  socket!.destroy();
  await eventually(() => assert.deepEqual(server.targets.aborted, ['flood']));
});

test('with a certificate the same is served over TLS', { skip: spawnSync('openssl', ['version']).status !== 0 && 'openssl is not installed' }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nodelet-tls-'));
  try {
    const [tlsKey, tlsCert] = [join(dir, 'tls.key'), join(dir, 'tls.crt')];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=localhost', '-keyout', tlsKey, '-out', tlsCert], { stdio: 'ignore' });
    await using server = await fakeServer({ tlsKey, tlsCert });
    const url = server.execUrl(['both']);
    assert.match(url, /^https:/);
    const both = await readAll(await spdyClient(url, ...all), ['error', 'stdout', 'stderr']);
    assert.deepEqual([both['stdout'], both['stderr']], ['to stdout', 'to stderr']);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('an address that cannot be used, or a certificate that is none, is a clear fault', async () => {
  await assert.rejects(fakeServer({ address: '192.0.2.1' }), (error) => isFault(error, 'precondition') && error.message.includes('192.0.2.1'));
  await assert.rejects(fakeServer({ tlsCert: '/nonexistent.crt', tlsKey: '/nonexistent.key' }), (error) => isFault(error, 'precondition'));
  await assert.rejects(fakeServer({ tlsCert: import.meta.filename, tlsKey: import.meta.filename }), (error) => isFault(error, 'precondition'));
});
