/** An NRI plugin that behaves as a test wants: the multiplexer, ttrpc and the few protobuf fields it needs are written here once more, so that it agrees with the server only where both are right. */
import { appendFileSync } from 'node:fs';
import { connect, Socket } from 'node:net';

export interface NriEvent { readonly method: string; readonly pod: string; readonly container: string }

/** What a plugin does when it is asked: answers with these bytes (a protobuf message), refuses, never answers, or leaves. */
export type Reaction = Uint8Array | { readonly refuse: string } | 'silence' | 'leave';

export interface NriPluginOptions {
  readonly name: string;
  readonly index: string;
  /** Also to be asked what it thinks of adjustments: a plugin that is lost then makes the request fail. */
  readonly validates?: true;
  /** Default: an empty answer. May wait. */
  readonly react?: (event: NriEvent) => Reaction | undefined | void | Promise<Reaction | undefined | void>;
}

export interface NriPlugin extends Disposable {
  /** Every request but the first two (Configure, Synchronize), in order. */
  readonly events: readonly NriEvent[];
  readonly configuration: string;
  /** Ids that Synchronize told. */
  readonly synced: { readonly pods: readonly string[]; readonly containers: readonly string[] };
  readonly isClosed: boolean;
  /** Ids of the containers that could not be updated. */
  update(containerId: string, shares: number): Promise<string[]>;
  evict(containerId: string): Promise<void>;
}

const pluginChannel = 1;
const runtimeChannel = 2;

// --- protobuf -----------------------------------------------------------------------------------------------------------------------

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}
/** A field of number `n`: a text or message, or a whole number. */
export const field = (n: number, value: string | Uint8Array | number): Buffer => {
  if (typeof value === 'number') return Buffer.concat([varint(n * 8), varint(value)]);
  const bytes = Buffer.from(value as string);
  return Buffer.concat([varint(n * 8 + 2), varint(bytes.length), bytes]);
};
export const message = (...fields: readonly Uint8Array[]): Buffer => Buffer.concat(fields);

function readVarint(bytes: Buffer, at: number): [number, number] {
  let value = 0;
  for (let i = at, scale = 1; ; i++, scale *= 128) {
    const byte = bytes[i] ?? 0;
    value += (byte & 127) * scale;
    if (byte < 128) return [value, i + 1];
  }
}
/** Every value of field `n`. */
function fields(bytes: Buffer, n: number): (Buffer | number)[] {
  const found: (Buffer | number)[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [tag, start] = readVarint(bytes, at);
    const [number, end] = readVarint(bytes, start);
    const isBytes = tag % 8 === 2;
    at = isBytes ? end + number : end;
    if (Math.floor(tag / 8) === n) found.push(isBytes ? bytes.subarray(end, at) : number);
  }
  return found;
}
const child = (bytes: Buffer, n: number): Buffer => fields(bytes, n).find((value) => typeof value !== 'number') ?? Buffer.alloc(0);
const idOf = (bytes: Buffer): string => child(bytes, 1).toString();

// --- the wire -----------------------------------------------------------------------------------------------------------------------

function frame(channel: number, stream: number, type: 1 | 2, body: Buffer): Buffer {
  const header = Buffer.alloc(18);
  header.writeUInt32BE(channel, 0);
  header.writeUInt32BE(10 + body.length, 4);
  header.writeUInt32BE(body.length, 8);
  header.writeUInt32BE(stream, 12);
  header[16] = type;
  return Buffer.concat([header, body]);
}

/** Hands over every ttrpc message: its channel, stream and body. */
function receive(socket: Socket, take: (channel: number, stream: number, body: Buffer) => void): void {
  let trunk = Buffer.alloc(0);
  const channels = new Map<number, Buffer>();
  socket.on('data', (chunk: Buffer) => {
    trunk = Buffer.concat([trunk, chunk]);
    while (trunk.length >= 8 && trunk.length >= 8 + trunk.readUInt32BE(4)) {
      const [channel, length] = [trunk.readUInt32BE(0), trunk.readUInt32BE(4)];
      let bytes = Buffer.concat([channels.get(channel) ?? Buffer.alloc(0), trunk.subarray(8, 8 + length)]);
      trunk = trunk.subarray(8 + length);
      for (; bytes.length >= 10 && bytes.length >= 10 + bytes.readUInt32BE(0); bytes = bytes.subarray(10 + bytes.readUInt32BE(0))) {
        take(channel, bytes.readUInt32BE(4), bytes.subarray(10, 10 + bytes.readUInt32BE(0)));
      }
      channels.set(channel, bytes);
    }
  });
}

// --- the plugin ---------------------------------------------------------------------------------------------------------------------

/** Registers; returns once it is synchronised. */
export async function startNriPlugin(socket: Socket, options: NriPluginOptions): Promise<NriPlugin> {
  const events: NriEvent[] = [];
  const synced = { pods: [] as string[], containers: [] as string[] };
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => undefined);
  const answers = new Map<number, (body: Buffer) => void>();
  const state = { isClosed: false, configuration: '', stream: 1 };
  const call = (method: string, payload: Buffer): Promise<Buffer> => {
    const stream = state.stream;
    state.stream += 2;
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    answers.set(stream, resolve);
    socket.write(frame(runtimeChannel, stream, 1, message(field(1, 'nri.pkg.api.v1alpha1.Runtime'), field(2, method), field(3, payload))));
    return promise;
  };
  const answerTo = async (method: string, request: Buffer): Promise<Reaction> => {
    if (method === 'Configure') state.configuration = child(request, 1).toString();
    // A bit per event, the first is RunPodSandbox and the fourteenth ValidateContainerAdjustment.
    if (method === 'Configure') return field(2, options.validates === true ? 0x3fff : 0x1fff);
    const event = { method, pod: idOf(child(request, 1)), container: idOf(child(request, 2)) };
    if (method === 'Synchronize') {
      synced.pods.push(...fields(request, 1).map((pod) => idOf(pod as Buffer)));
      synced.containers.push(...fields(request, 2).map((container) => idOf(container as Buffer)));
      const reaction = (await options.react?.(event)) ?? new Uint8Array(0);
      setImmediate(ready.resolve);
      return fields(request, 3).includes(1) ? field(2, 1) : reaction;
    }
    events.push(event);
    return (await options.react?.(event)) ?? new Uint8Array(0);
  };
  receive(socket, (channel, stream, body) => {
    if (channel === runtimeChannel) return answers.get(stream)?.(body);
    if (channel !== pluginChannel) return undefined;
    void answerTo(child(body, 2).toString(), child(body, 3)).then((reaction) => {
      if (reaction === 'silence') return;
      if (reaction === 'leave') socket.destroy();
      else socket.write(frame(pluginChannel, stream, 2, 'refuse' in reaction ? field(1, message(field(1, 2), field(2, reaction.refuse))) : field(2, reaction)));
    });
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    state.isClosed = true;
    ready.reject(new Error('the runtime closed the connection'));
  });
  await call('RegisterPlugin', message(field(1, options.name), field(2, options.index)));
  await ready.promise;
  return {
    events, synced,
    get configuration() { return state.configuration; },
    get isClosed() { return state.isClosed; },
    update: async (containerId, shares) => {
      const resources = field(2, field(1, field(1, shares)));
      const answer = await call('UpdateContainers', field(1, message(field(1, containerId), field(2, field(1, resources)))));
      return fields(child(answer, 2), 1).map((update) => idOf(update as Buffer));
    },
    evict: async (containerId) => void (await call('UpdateContainers', field(2, message(field(1, containerId), field(2, 'the test wants it'))))),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

export const connectNriPlugin = (path: string, options: NriPluginOptions): Promise<NriPlugin> => startNriPlugin(connect(path), options);

/** For a program that the runtime started: the socket is where the environment says, and what it hears goes to `file`. */
export async function runInstalledPlugin(file: string): Promise<void> {
  const { NRI_PLUGIN_SOCKET, NRI_PLUGIN_NAME = '', NRI_PLUGIN_IDX = '' } = process.env;
  const say = (text: string): void => appendFileSync(file, `${text}\n`);
  const plugin = await startNriPlugin(new Socket({ fd: Number(NRI_PLUGIN_SOCKET) }), { name: NRI_PLUGIN_NAME, index: NRI_PLUGIN_IDX, react: ({ method }) => say(method) });
  say(`${NRI_PLUGIN_IDX} ${NRI_PLUGIN_NAME} ${plugin.configuration}`);
}
