/** Port-forward into a real network namespace: which address, which end, what a refusal says. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type ListenOptions, type Server, type Socket } from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { NamespaceMode, PodSandboxConfig } from '#cri-api';
import { quietCtx } from '#host/log.ts';
import { inNetworkNamespace, namespacePath } from '#host/namespaces.ts';
import { missing, testPod, type TestPod } from '../container/pod.fake.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { portForward } from './port-forward.ts';

const skip = await missing();

const recordOf = (pod: TestPod): SandboxRecord => pod.createDeps.sandboxes.get(pod.sandboxId);

/** A server inside the pod that half-closes as its client does. */
async function serve(pod: TestPod, options: ListenOptions, onConnection: (socket: Socket) => void): Promise<Server & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    onConnection(socket);
  });
  inNetworkNamespace(namespacePath(recordOf(pod).namespacesDir, 'net'), () => void server.listen({ port: 8080, ...options }));
  await once(server, 'listening');
  return server;
}

/** What the client sends is `input`, what it gets `output`. */
function client(): { connection: Duplex; input: PassThrough; output: PassThrough } {
  const [input, output] = [new PassThrough(), new PassThrough()];
  return { input, output, connection: Duplex.from({ readable: input, writable: output } as never) };
}

const forward = (pod: TestPod, connection: Duplex, options: { port?: number; signal?: AbortSignal } = {}): Promise<void> =>
  portForward({ ...quietCtx(), ...(options.signal && { signal: options.signal }) }, { sandboxes: pod.createDeps.sandboxes }, { sandboxId: pod.sandboxId, port: options.port ?? 8080 }, connection);

for (const ipv6Only of [false, true]) {
  test(`bytes and ends go both ways, each end by itself, to ${ipv6Only ? '::1 when nobody is at 127.0.0.1' : '127.0.0.1'}`, { skip }, async () => {
    await using pod = await testPod();
    let peer = '';
    await using _ = await serve(pod, { ipv6Only }, (socket) => {
      peer = (socket.address() as AddressInfo).address;
      let bytes = 0;
      socket.on('data', (chunk: Buffer) => void (bytes += chunk.length)).on('end', () => socket.end(`${bytes} bytes`));
    });
    const { connection, input, output } = client();
    const done = forward(pod, connection);
    input.end(Buffer.alloc(5_000_000));
    assert.equal((await buffer(output)).toString(), '5000000 bytes');
    await done;
    assert.equal(peer, ipv6Only ? '::1' : '::ffff:127.0.0.1');
  });
}

test('the server may end first and still hears the client', { skip }, async () => {
  await using pod = await testPod();
  const heard = Promise.withResolvers<Buffer>();
  await using _ = await serve(pod, {}, (socket) => {
    socket.end('hello');
    void buffer(socket).then(heard.resolve, heard.reject);
  });
  const { connection, input, output } = client();
  const done = forward(pod, connection);
  assert.equal((await buffer(output)).toString(), 'hello');
  input.end('later');
  await done;
  assert.equal((await heard.promise).toString(), 'later');
});

test('a port where nobody listens, a port that is none, a sandbox that is not ready', { skip }, async () => {
  await using pod = await testPod();
  const { connection } = client();
  await assert.rejects(forward(pod, connection, { port: 81 }), { kind: 'unavailable', message: `failed to connect to localhost:81 inside namespace "${pod.sandboxId}": connection refused` });
  await assert.rejects(forward(pod, connection, { port: 0 }), { kind: 'invalid' });
  await assert.rejects(forward(pod, connection, { port: 65_536 }), { kind: 'invalid' });
  const stopped = { sandboxes: { get: () => ({ ...recordOf(pod), state: { name: 'not-ready' } as const }) } };
  await assert.rejects(portForward(pod.ctx, stopped, { sandboxId: pod.sandboxId, port: 8080 }, connection), { kind: 'precondition' });
});

test('with the network of the host it is the localhost of the host', { skip }, async () => {
  await using pod = await testPod();
  await using server = createServer((socket) => socket.end('host'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const config = PodSandboxConfig.fromPartial({ linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } } });
  const deps = { sandboxes: { get: () => ({ ...recordOf(pod), config }) } };
  const { connection, input, output } = client();
  const done = portForward(pod.ctx, deps, { sandboxId: pod.sandboxId, port: (server.address() as AddressInfo).port }, connection);
  input.end();
  assert.equal((await buffer(output)).toString(), 'host');
  await done;
});

test('a client that reads nothing stops the server, and when it goes away the connection goes too', { skip }, async () => {
  await using pod = await testPod();
  const gone = new AbortController();
  const closed = Promise.withResolvers<number>();
  await using _ = await serve(pod, {}, (socket) => {
    let written = 0;
    const more = (): void => {
      do written += 65_536;
      while (socket.write(Buffer.alloc(65_536)) && written < 1e9);
    };
    socket.on('drain', more).on('close', () => closed.resolve(written));
    more();
  });
  const { connection, output } = client();
  const done = forward(pod, connection, { signal: gone.signal });
  await once(output, 'readable');
  await sleep(300);
  gone.abort();
  await assert.rejects(done, { kind: 'canceled' });
  assert.ok((await closed.promise) < 1e8);
});
