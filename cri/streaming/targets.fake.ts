/** What streams are connected to in tests, and a server with it. */
import { setImmediate as turn } from 'node:timers/promises';
import { Duplex } from 'node:stream';
import { request, type OutgoingHttpHeaders } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { pino } from 'pino';
import { AttachRequest, ExecRequest, PortForwardRequest } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { startStreaming, type Streaming } from './server.ts';
import { FakeSpdyClient } from './spdy/client.fake.ts';
import type { StreamingTargets, TerminalSize } from './targets.ts';

export interface FakeTargets extends StreamingTargets {
  /** Of sessions whose ctx ended before they did. */
  readonly aborted: string[];
  readonly sizes: TerminalSize[];
  /** By exec of `flood`. */
  floodedBytes: number;
}

const untilAborted = (ctx: Ctx): Promise<void> => new Promise((resolve) => (ctx.signal.aborted ? resolve() : ctx.signal.addEventListener('abort', () => resolve(), { once: true })));

/** Commands: `exit N`, `cat`, `fail WORDS`, `both`, `sizes`, `flood`, `hang`. Ports: 7 echoes in capitals, 1 fails. */
export function fakeTargets(): FakeTargets {
  const targets: FakeTargets = {
    aborted: [], sizes: [], floodedBytes: 0,
    exec: async (ctx, { command: [name = '', word = ''] }, io) => {
      if (name === 'exit') return Number(word);
      if (name === 'fail') throw new Fault('internal', word);
      if (name === 'both') {
        io.stdout?.write('to stdout');
        io.stderr?.write('to stderr');
      }
      if (name === 'cat') for await (const chunk of io.stdin?.iterator({ destroyOnReturn: false }) ?? []) io.stdout?.write(chunk);
      if (name === 'sizes') for await (const size of io.resizes) if (targets.sizes.push(size) === 2) break;
      while (name === 'flood' && !ctx.signal.aborted && io.stdout !== undefined) {
        targets.floodedBytes += 65536;
        if (io.stdout.write(Buffer.alloc(65536))) await turn();
        else await Promise.race([untilAborted(ctx), new Promise((resolve) => io.stdout?.once('drain', resolve))]);
      }
      if (name === 'hang' || name === 'flood') {
        await untilAborted(ctx);
        targets.aborted.push(name);
      }
      return 0;
    },
    attach: async (_ctx, { containerId }, io) => {
      io.stdout?.write(`attached to ${containerId}`);
    },
    portForward: async (ctx, { port }, connection) => {
      if (port === 1) throw new Fault('unavailable', 'connection refused');
      for await (const chunk of connection.iterator({ destroyOnReturn: false })) connection.write(String(chunk).toUpperCase());
      if (ctx.signal.aborted) targets.aborted.push('connection');
    },
  };
  return targets;
}

export interface FakeServer extends Streaming {
  readonly targets: FakeTargets;
  readonly log: string[];
  execUrl(command: readonly string[], streams?: Partial<ExecRequest>): string;
  attachUrl(): string;
  portsUrl(port?: readonly number[]): string;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function fakeServer(config: Partial<Parameters<typeof startStreaming>[1]> = {}): Promise<FakeServer> {
  const log: string[] = [];
  const ctx: Ctx = { signal: new AbortController().signal, log: pino({ level: 'debug' }, { write: (line: string) => void log.push(line) }) };
  const targets = fakeTargets();
  const streaming = await startStreaming(ctx, { address: '127.0.0.1', port: 0, tlsCert: undefined, tlsKey: undefined, idleTimeoutMs: 3_600_000, ...config }, targets);
  return {
    ...streaming, targets, log,
    execUrl: (cmd, streams = {}) => streaming.exec(ExecRequest.create({ containerId: 'c', cmd: [...cmd], stdout: true, stderr: streams.tty !== true, ...streams })),
    attachUrl: () => streaming.attach(AttachRequest.create({ containerId: 'c', stdout: true })),
    portsUrl: (port = []) => streaming.portForward(PortForwardRequest.create({ podSandboxId: 's', port: [...port] })),
    [Symbol.asyncDispose]: () => streaming.stop(),
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  /** After 101. */
  readonly socket: Duplex | undefined;
}

/** One request, upgraded if the server agrees. */
export function ask(url: string, headers: OutgoingHttpHeaders, method = 'POST'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = url.startsWith('https') ? tlsRequest(url, { method, headers, agent: false, rejectUnauthorized: false }) : request(url, { method, headers, agent: false });
    asked.on('error', reject);
    asked.on('upgrade', (response, socket, early) => {
      if (early.length > 0) socket.unshift(early);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: '', socket });
    });
    asked.on('response', (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString())).on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body, socket: undefined }));
    });
    asked.end();
  });
}

export const spdyHeaders = (...protocols: string[]): OutgoingHttpHeaders =>
  ({ Connection: 'Upgrade', Upgrade: 'SPDY/3.1', ...(protocols.length === 0 ? {} : { 'X-Stream-Protocol-Version': protocols }) });

export async function spdyClient(url: string, ...protocols: string[]): Promise<FakeSpdyClient> {
  const { status, body, socket } = await ask(url, spdyHeaders(...protocols));
  if (socket === undefined) throw new Error(`${status}: ${body}`);
  return new FakeSpdyClient(socket);
}

export interface FakeSocket {
  readonly socket: WebSocket;
  /** The messages received, by channel; of text messages, decoded. */
  readonly channels: Map<number, string>;
  /** Messages received, as they came. */
  readonly messages: Buffer[];
  closedWith: number | undefined;
}

/** Node's own WebSocket client. */
export async function webSocketClient(url: string, protocols: readonly string[]): Promise<FakeSocket> {
  const socket = new WebSocket(url.replace('http', 'ws'), [...protocols]);
  socket.binaryType = 'arraybuffer';
  const client: FakeSocket = { socket, channels: new Map(), messages: [], closedWith: undefined };
  socket.addEventListener('message', ({ data }: { data: unknown }) => {
    const bytes = typeof data === 'string' ? Buffer.from(data) : Buffer.from(data as ArrayBuffer);
    client.messages.push(bytes);
    const channel = typeof data === 'string' ? (bytes[0] ?? 0) - 48 : (bytes[0] ?? 0);
    const text = typeof data === 'string' ? Buffer.from(data.slice(1), 'base64').toString() : bytes.toString('latin1', 1);
    client.channels.set(channel, (client.channels.get(channel) ?? '') + text);
  });
  socket.addEventListener('close', ({ code }) => (client.closedWith = code));
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve());
    socket.addEventListener('error', () => reject(new Error('no WebSocket')));
  });
  return client;
}

/**
 * A byte stream in a client's binary messages. By hand, since the name of the subprotocol has a slash, which WebSocket clients refuse to offer
 * (Kubernetes' does not).
 */
export async function tunnelTo(url: string): Promise<Duplex> {
  const { socket, status, headers } = await ask(url, {
    Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Protocol': 'SPDY/3.1+portforward.k8s.io',
  }, 'GET');
  if (socket === undefined) throw new Error(`${status}`);
  if (headers['sec-websocket-protocol'] !== 'SPDY/3.1+portforward.k8s.io') throw new Error('the server chose another protocol');
  let rest = Buffer.alloc(0);
  const tunnel = new Duplex({
    read: () => undefined,
    write: (bytes: Buffer, _encoding, done) => {
      // Masked with zeros.
      const head = Buffer.from([0x82, 0xfe, 0, 0, 0, 0, 0, 0]);
      head.writeUInt16BE(bytes.length, 2);
      socket.write(Buffer.concat([head, bytes]), done);
    },
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const short = rest[1] ?? 0;
      const headBytes = short < 126 ? 2 : 4;
      const length = short < 126 ? short : rest.length < 4 ? Infinity : rest.readUInt16BE(2);
      if (rest.length < Math.max(2, headBytes + length)) return;
      if (rest[0] === 0x82) tunnel.push(rest.subarray(headBytes, headBytes + length));
      rest = rest.subarray(headBytes + length);
    }
  });
  socket.on('close', () => tunnel.push(null));
  return tunnel;
}
