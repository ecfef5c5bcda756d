/** Calls in both directions over one socket, with a far side that is slow, silent, wrong or gone; and a plugin on top of it. */
import assert from 'node:assert/strict';
import { duplexPair, type Duplex } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { Connection, RpcError } from './connection.ts';
import { FrameDecoder } from './frames.ts';
import { Gate } from './gate.ts';
import { ConfigureResponse, Event, PodSandbox, RegisterPluginRequest, StateChangeEvent } from './gen/api.ts';
import { muxFormat, muxFrames, pluginChannel, runtimeChannel } from './mux.ts';
import { Plugin } from './plugin.ts';
import { decodeMessage, encodeRequest, encodeResponse, type Message, messageFormat } from './ttrpc.ts';

const target = { service: 'svc', method: 'Do' };
const nothing = new Uint8Array(0);

interface Far {
  readonly socket: Duplex;
  /** All that came, in order. */
  readonly heard: Message[];
  /** Called for each message. */
  react: (message: Message) => void;
  send(channel: number, message: Buffer): void;
}
function far(socket: Duplex): Far {
  const frames = new FrameDecoder(muxFormat);
  const streams = new Map([pluginChannel, runtimeChannel].map((channel) => [channel, new FrameDecoder(messageFormat)]));
  const self: Far = {
    socket, heard: [], react: () => undefined,
    send: (channel, message) => void socket.write(Buffer.concat(muxFrames(channel, message))),
  };
  socket.on('data', (chunk: Buffer) => {
    for (const { header, body } of frames.push(chunk)) {
      for (const frame of streams.get(header.channel)!.push(body)) {
        const message = decodeMessage(frame.header, frame.body);
        self.heard.push(message);
        self.react(message);
      }
    }
  });
  socket.on('error', () => undefined);
  return self;
}
function connected(serve: (method: string, payload: Uint8Array) => Promise<Uint8Array> = () => Promise.resolve(nothing)): { near: Connection; other: Far } {
  const [ours, theirs] = duplexPair();
  return { near: new Connection(ours, 'svc', serve), other: far(theirs) };
}
const answer = (message: Message, payload: Uint8Array, code = 0): Buffer =>
  encodeResponse('stream' in message ? message.stream : 0, { status: code === 0 ? undefined : { code, message: 'no' }, payload });

test('answers find their calls, whatever their order', async () => {
  const { near, other } = connected();
  const calls = [1, 2, 3].map((n) => near.call(target, Uint8Array.of(n), 5000));
  while (other.heard.length < 3) await turn();
  for (const message of other.heard.toReversed()) other.send(pluginChannel, answer(message, message.kind === 'request' ? message.request.payload : nothing));
  assert.deepEqual((await Promise.all(calls)).map((bytes) => bytes[0]), [1, 2, 3]);
});

test('an error of the other side is an RpcError and the connection goes on', async () => {
  const { near, other } = connected();
  other.react = (message) => other.send(pluginChannel, answer(message, nothing, 12));
  await assert.rejects(near.call(target, nothing, 5000), (error) => error instanceof RpcError && error.kind === 'unimplemented');
  assert.equal(near.isOpen, true);
});

test('no answer is a timeout, and one that comes too late is dropped', async () => {
  const { near, other } = connected();
  await assert.rejects(near.call(target, nothing, 5), (error) => isFault(error, 'timeout'));
  other.send(pluginChannel, answer(other.heard[0]!, nothing));
  other.react = (message) => other.send(pluginChannel, answer(message, Uint8Array.of(7)));
  assert.deepEqual([...(await near.call(target, nothing, 5000))], [7]);
});

for (const [name, end] of [['closes', (other: Far) => other.socket.end()], ['breaks', (other: Far) => other.socket.destroy()], ['talks nonsense', (other: Far) => other.socket.write(Buffer.alloc(8, 0xff))]] as const) {
  test(`a far side that ${name} ends the calls under way and those to come`, async () => {
    const { near, other } = connected();
    const call = near.call(target, nothing, 5000);
    end(other);
    await assert.rejects(call, (error) => isFault(error, 'unavailable'));
    await near.closed;
    await assert.rejects(near.call(target, nothing, 5000), (error) => isFault(error, 'unavailable'));
  });
}

test('calls of the far side are answered, refused when unknown, and too many at once are refused', async () => {
  const hang = new Promise<Uint8Array>(() => undefined);
  const { other } = connected((method, payload) => (method === 'Hang' ? hang : method === 'Fail' ? Promise.reject(new Error('oh')) : Promise.resolve(payload)));
  const asked = (stream: number, service: string, method: string): void => other.send(runtimeChannel, encodeRequest(stream, { service, method, payload: Uint8Array.of(9), timeoutNano: 0n }));
  asked(1, 'svc', 'Echo');
  asked(3, 'other', 'Echo');
  asked(5, 'svc', 'Fail');
  while (other.heard.length < 3) await turn();
  const outcome = (message: Message): unknown => (message.kind === 'response' ? [message.stream, message.response.status?.code ?? 0] : message.kind);
  assert.deepEqual(other.heard.map(outcome).toSorted((a, b) => String(a).localeCompare(String(b))), [[1, 0], [3, 12], [5, 2]]);
  for (let i = 0; i < 65; i++) asked(7 + 2 * i, 'svc', 'Hang');
  while (other.heard.length < 4) await turn();
  assert.deepEqual(outcome(other.heard[3]!), [7 + 2 * 64, 8]);
});

// --- a plugin -------------------------------------------------------------------------------------------------------------------------

const runtime = 'nri.pkg.api.v1alpha1.Runtime';
function pluginAt(react: (method: string, payload: Uint8Array) => { payload?: Uint8Array; code?: number }): { plugin: Plugin; other: Far; methods: string[] } {
  const [ours, theirs] = duplexPair();
  const other = far(theirs);
  const methods: string[] = [];
  other.react = (message) => {
    if (message.kind !== 'request') return;
    methods.push(message.request.method);
    const { payload = nothing, code = 0 } = react(message.request.method, message.request.payload);
    other.send(pluginChannel, answer(message, payload, code));
  };
  const plugin = new Plugin(ours, { configuration: '', runtime: { name: 'n', version: 'v' }, registrationTimeoutMs: 5000, requestTimeoutMs: 5000, update: () => Promise.resolve([]) });
  return { plugin, other, methods };
}
const register = (other: Far, pluginName: string, pluginIdx: string): void =>
  other.send(runtimeChannel, encodeRequest(1, { service: runtime, method: 'RegisterPlugin', payload: RegisterPluginRequest.encode({ pluginName, pluginIdx, NRIVersion: '' }).finish(), timeoutNano: 0n }));

test('a plugin that does not know a moment is told of it as a change of state, from then on at once', async () => {
  const told: number[] = [];
  const { plugin, other, methods } = pluginAt((method, payload) => {
    if (method === 'StateChange') told.push(StateChangeEvent.decode(payload).event);
    return method === 'StopPodSandbox' ? { code: 12 } : {};
  });
  register(other, 'old', '07');
  await plugin.start();
  assert.equal(plugin.id, '07-old');
  for (let i = 0; i < 2; i++) await plugin.ask(quietCtx(), 'stopPodSandbox', { pod: PodSandbox.create() });
  assert.deepEqual(methods, ['Configure', 'StopPodSandbox', 'StateChange', 'StateChange']);
  assert.deepEqual(told, [Event.STOP_POD_SANDBOX, Event.STOP_POD_SANDBOX]);
});

test('a plugin is asked only what it subscribed to, and no event that does not exist', async () => {
  const one = pluginAt(() => ({ payload: ConfigureResponse.encode({ events: 1 }).finish() }));
  register(one.other, 'a', '01');
  await one.plugin.start();
  await one.plugin.ask(quietCtx(), 'stopPodSandbox', { pod: undefined });
  assert.deepEqual(one.methods, ['Configure']);
  const other = pluginAt(() => ({ payload: ConfigureResponse.encode({ events: 1 << 20 }).finish() }));
  register(other.other, 'a', '01');
  await assert.rejects(other.plugin.start(), /unknown events/);
  assert.equal(other.plugin.isOpen, false);
});

for (const [name, index] of [['', '01'], ['a b', '01'], ['a', '1'], ['a', 'xx'], ['a\n', '01']] as const) {
  test(`a plugin cannot register as ${JSON.stringify([index, name])}`, async () => {
    const { plugin, other } = pluginAt(() => ({}));
    register(other, name, index);
    await assert.rejects(plugin.start(), (error) => isFault(error, 'invalid'));
    assert.equal(plugin.isOpen, false);
  });
}

test('the gate closes when nobody is inside, keeps others out, and lets in those who come while it waits', async () => {
  const gate = new Gate();
  const seen: string[] = [];
  const first = await gate.enter();
  const closing = gate.close().then((closed) => {
    seen.push('closed');
    return closed;
  });
  const second = await gate.enter();
  first[Symbol.dispose]();
  await turn();
  second[Symbol.dispose]();
  const closed = await closing;
  const late = gate.enter().then(() => seen.push('entered'));
  await turn();
  seen.push('opened');
  closed[Symbol.dispose]();
  await late;
  assert.deepEqual(seen, ['closed', 'opened', 'entered']);
});
