/** Exec, attach, port-forward and run on the node's API: what is asked of the runtime, what is answered, and the tunnel to its streaming server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { test } from 'node:test';
import { Fault } from '#host/fault.ts';
import type { MadeCertificate } from '../kube/certificate.ts';
import type { ServerBackend } from './routes.ts';
import { ask, world, type World } from './server.fake.ts';

type Runtime = ServerBackend['runtime'];

/** Notes what it is asked for; the streams are at `url`. */
function runtimeAt(url: string): { runtime: Runtime; asked: unknown[] } {
  const asked: unknown[] = [];
  const note = (request: unknown): Promise<string> => {
    asked.push(request);
    return Promise.resolve(url);
  };
  return {
    asked,
    runtime: {
      execUrl: (_ctx, request) => note(request),
      attachUrl: (_ctx, request) => note(request),
      portForwardUrl: (_ctx, sandboxId, ports) => note({ sandboxId, ports }),
      execSync: (_ctx, id, cmd) => Promise.resolve(cmd[0] === 'fail' ? { stdout: Buffer.from('o'), stderr: Buffer.from('why'), exitCode: 3 } : { stdout: Buffer.from(`${id}:${cmd.join('|')}`), stderr: Buffer.from('!'), exitCode: 0 }),
    },
  };
}

/** A streaming server: what arrives as an upgrade goes to `onUpgrade`. */
async function upstream(onUpgrade: (request: IncomingMessage, socket: Socket, early: Buffer) => void): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer();
  server.on('upgrade', (request: IncomingMessage, socket: Socket, early: Buffer) => {
    onUpgrade(request, socket, early);
    socket.on('error', () => undefined).on('end', () => socket.end()).resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/exec/token?x=1`,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

/** An upgrade request with `early` right behind it. */
function upgrade(it: World, path: string, options: { as?: MadeCertificate; headers?: string; early?: string; method?: string } = {}): TLSSocket {
  const { as, headers = '', early = '', method = 'POST' } = options;
  // The type has no allowHalfOpen, which tls.connect takes.
  const socket = connect({ host: '127.0.0.1', port: it.port, rejectUnauthorized: false, cert: as?.certificatePem, key: as?.keyPem, ...({ allowHalfOpen: true } as object) });
  socket.write(`${method} ${path} HTTP/1.1\r\nhost: n\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n${headers}\r\n${early}`);
  return socket;
}

async function all(socket: TLSSocket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  await once(socket, 'end');
  return text;
}

const refusals: [path: string, status: string, text: string][] = [
  ['/exec/a/p/run?command=sh', '400 Bad Request', 'you must specify at least 1 of stdin, stdout, stderr'],
  ['/exec/a/p/run?command=sh&tty=1&error=1', '400 Bad Request', 'you must specify at least 1 of stdin, stdout, stderr'],
  ['/exec/a/x/run?command=sh&output=1', '404 Not Found', 'pod does not exist'],
  ['/exec/a/p/wait?command=sh&output=1', '500 Internal Server Error', 'container not found ("wait")'],
  ['/exec/a/p/other/run?command=sh&output=1', '500 Internal Server Error', 'container not found ("run")'],
  ['/attach/a/p/wait?output=1', '500 Internal Server Error', 'container wait not found in pod p_a'],
  ['/attach/a/x/run?output=1', '404 Not Found', 'pod does not exist'],
  ['/portForward/a/x', '404 Not Found', 'pod does not exist'],
  ['/portForward/a/p/other', '404 Not Found', 'pod not found'],
  ['/pods', '405 Method Not Allowed', '405: Method Not Allowed'],
  ['/nowhere', '404 Not Found', '404 page not found\n'],
];

test('an upgrade passes the same gate, and is refused in the words of the kubelet', async () => {
  await using it = await world();
  const answer = async (path: string, as?: MadeCertificate): Promise<[string, string]> => {
    const text = await all(upgrade(it, path, as === undefined ? {} : { as }));
    return [text.split('\r\n')[0]?.slice('HTTP/1.1 '.length) ?? '', text.split('\r\n\r\n')[1] ?? ''];
  };
  const path = '/exec/a/p/run?command=sh&output=1';
  assert.deepEqual(await answer(path), ['401 Unauthorized', 'Unauthorized']);
  assert.deepEqual(await answer(path, it.stranger), ['401 Unauthorized', 'Unauthorized']);
  assert.deepEqual(await answer(path, it.user), ['403 Forbidden', 'Forbidden (user=user, verb=create, resource=nodes, subresource(s)=[proxy])\n']);
  for (const [asked, status, text] of refusals) assert.deepEqual(await answer(asked, it.admin), [status, text], asked);
});

test('a request that is not upgraded is told so, after the same checks', async () => {
  const { runtime } = runtimeAt('http://127.0.0.1:1/');
  await using it = await world({ runtime });
  assert.deepEqual(await ask(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin }), { status: 400, text: 'Upgrade request required' });
  assert.deepEqual(await ask(it, '/exec/a/x/run?command=sh&output=1', { as: it.admin }), { status: 404, text: 'pod does not exist' });
});

const asks: [path: string, headers: string, want: unknown][] = [
  ['/exec/a/p/run?command=sh&command=-c&command=a%20b&input=1&output=1&error=1', '', { containerId: 'c1', cmd: ['sh', '-c', 'a b'], stdin: true, stdout: true, stderr: true, tty: false }],
  ['/exec/a/p/u1/run?command=sh&output=1&error=1&tty=1', '', { containerId: 'c1', cmd: ['sh'], stdin: false, stdout: true, stderr: false, tty: true }],
  ['/attach/a/p/run?output=1&error=1', '', { containerId: 'c1', stdin: false, stdout: true, stderr: false, tty: true }],
  ['/portForward/a/p', '', { sandboxId: 's1', ports: [] }],
];

test('the runtime is asked for what the client wants; a terminal is the container’s affair when attaching', async () => {
  await using server = await upstream((_request, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n'));
  for (const [path, headers, want] of asks) {
    const { runtime, asked } = runtimeAt(server.url);
    await using it = await world({ runtime });
    const socket = upgrade(it, path, { as: it.admin, headers });
    await all(socket);
    socket.end();
    assert.deepEqual(asked, [want], path);
  }
});

test('ports of a websocket client are in its query, and checked', async () => {
  const { runtime, asked } = runtimeAt('http://127.0.0.1:1/');
  await using it = await world({ runtime });
  for (const [query, want] of [['', 'query parameter "port" is required'], ['?port=x', 'unable to parse "x" as a port'], ['?port=0', 'port "0" must be > 0']] as const) {
    const socket = connect({ host: '127.0.0.1', port: it.port, rejectUnauthorized: false, cert: it.admin.certificatePem, key: it.admin.keyPem });
    socket.write(`GET /portForward/a/p${query} HTTP/1.1\r\nhost: n\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`);
    assert.equal((await all(socket)).split('\r\n\r\n')[1], want);
  }
  assert.deepEqual(asked, []);
});

test('after a 101 bytes and ends go both ways, early bytes too, and headers arrive but for the client’s secrets', async () => {
  let seen: IncomingMessage | undefined;
  await using server = await upstream((request, socket, early) => {
    seen = request;
    let heard = early.toString();
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4\r\n\r\nfirst ');
    socket.on('data', (piece: Buffer) => (heard += piece.toString())).on('end', () => socket.end(`heard ${heard.length}`));
  });
  await using it = await world(runtimeAt(server.url));
  const headers = 'X-Stream-Protocol-Version: v5\r\nX-Stream-Protocol-Version: v4\r\nAuthorization: Bearer good\r\n';
  const socket = upgrade(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin, headers, early: 'early' });
  socket.end('x'.repeat(3_000_000));
  const [head, body] = (await all(socket)).split('\r\n\r\n');
  assert.match(head ?? '', /^HTTP\/1.1 101 Switching Protocols\r\n/);
  assert.match(head ?? '', /X-Stream-Protocol-Version: v4/);
  assert.equal(body, 'first heard 3000005');
  assert.equal(`${seen?.method} ${seen?.url}`, 'POST /exec/token?x=1');
  assert.deepEqual([seen?.headersDistinct['x-stream-protocol-version'], seen?.headers.authorization], [['v5', 'v4'], undefined]);
});

test('a refusal of the streaming server is passed on, and ends the connection', async () => {
  await using server = await upstream((_request, socket) => socket.write('HTTP/1.1 403 Forbidden\r\nX-Accepted: v4\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nnope'));
  await using it = await world(runtimeAt(server.url));
  const text = await all(upgrade(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin, early: 'GET / HTTP/1.1\r\n\r\n' }));
  assert.match(text, /^HTTP\/1.1 403 Forbidden\r\nX-Accepted: v4\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope$/);
});

test('a runtime that says no, and one whose server is not there', async () => {
  const failing = async (error: Error): Promise<string> => {
    await using it = await world({ runtime: { ...runtimeAt('').runtime, execUrl: () => Promise.reject(error) } });
    return await all(upgrade(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin }));
  };
  assert.match(await failing(new Fault('not-found', 'no such container')), /^HTTP\/1.1 404 Not Found\r\n[^]*\r\n\r\nno such container$/);
  assert.match(await failing(new Fault('exhausted', 'too many')), /^HTTP\/1.1 429 Too Many Requests\r\n[^]*retry-after: 60\r\n[^]*too many$/);
  assert.match(await failing(new Fault('precondition', 'it is not running')), /^HTTP\/1.1 500 [^]*it is not running$/);
  await using it = await world(runtimeAt('http://127.0.0.1:1/exec/x'));
  assert.match(await all(upgrade(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin })), /^HTTP\/1.1 500 [^]*streaming server of the runtime at http:\/\/127.0.0.1:1: connect ECONNREFUSED/);
});

test('a server that stops ends its tunnels', async () => {
  const closed = Promise.withResolvers<void>();
  await using server = await upstream((_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello');
    socket.on('close', () => closed.resolve());
  });
  const it = await world(runtimeAt(server.url));
  const socket = upgrade(it, '/exec/a/p/run?command=sh&output=1', { as: it.admin });
  socket.on('error', () => undefined);
  await once(socket, 'data');
  await it[Symbol.asyncDispose]();
  await closed.promise;
  socket.destroy();
});

test('run answers the output of a command split at spaces, or how it failed', async () => {
  await using it = await world(runtimeAt(''));
  const run = (path: string, method = 'POST'): Promise<{ status: number | undefined; text: string }> => ask(it, path, { as: it.admin, method });
  assert.deepEqual(await run('/run/a/p/run?cmd=ls%20-l'), { status: 200, text: 'c1:ls|-l!' });
  assert.deepEqual(await run('/run/a/p/u1/run?cmd=fail%20x'), { status: 500, text: "command 'fail x' exited with 3: why" });
  assert.deepEqual(await run('/run/a/x/run?cmd=ls'), { status: 404, text: 'pod does not exist' });
  assert.deepEqual(await run('/run/a/p/wait?cmd=ls'), { status: 500, text: 'container not found ("wait")' });
  assert.equal((await run('/run/a/p/run?cmd=ls', 'GET')).status, 405);
});
