/** What goes on between us and one plugin: our calls to it and its calls to us, two ttrpc connections over one socket. */
import type { Duplex } from 'node:stream';
import { explain, Fault } from '#host/fault.ts';
import { FrameDecoder } from './frames.ts';
import { muxFormat, muxFrames, pluginChannel, runtimeChannel } from './mux.ts';
import { decodeMessage, encodeRequest, encodeResponse, type Message, messageFormat, rpcCode } from './ttrpc.ts';

/** The plugin's own answer to a call: an error. The connection is as good as before. */
export class RpcError extends Fault {
  readonly code: number;
  constructor(code: number, message: string) {
    super(code === rpcCode.unimplemented ? 'unimplemented' : 'internal', message);
    this.name = 'RpcError';
    this.code = code;
  }
}

/** Answers one call of the plugin; a throw becomes the call's error. */
export type Serve = (method: string, payload: Uint8Array) => Promise<Uint8Array>;

export interface CallTarget {
  readonly service: string;
  readonly method: string;
}

interface Waiting {
  resolve(payload: Uint8Array): void;
  reject(error: Fault): void;
}

/** How many calls of a plugin may be under way; more are refused. */
const maxServed = 64;

export class Connection {
  readonly #socket: Duplex;
  readonly #serve: Serve;
  readonly #waiting = new Map<number, Waiting>();
  readonly #closed = Promise.withResolvers<void>();
  #nextStream = 1;
  #served = 0;
  #end: Fault | undefined;

  /** `service` is the full name of the one that we serve. */
  constructor(socket: Duplex, service: string, serve: Serve) {
    this.#socket = socket;
    this.#serve = serve;
    const frames = new FrameDecoder(muxFormat);
    const answers = new FrameDecoder(messageFormat);
    const calls = new FrameDecoder(messageFormat);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const { header, body } of frames.push(chunk)) {
          if (header.channel === pluginChannel) for (const frame of answers.push(body)) this.#take(decodeMessage(frame.header, frame.body));
          if (header.channel === runtimeChannel) for (const frame of calls.push(body)) this.#answer(decodeMessage(frame.header, frame.body), service);
        }
      } catch (cause) {
        this.close(new Fault('unavailable', 'the connection cannot be understood', cause));
      }
    });
    socket.on('error', (cause: Error) => this.close(new Fault('unavailable', 'the connection failed', cause)));
    socket.on('close', () => this.close(new Fault('unavailable', 'the connection was closed')));
    socket.on('end', () => this.close(new Fault('unavailable', 'the connection was closed')));
  }

  /** Resolves when the connection has ended, whoever ended it. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /** Ends the connection and every call under way with `why`. May be called twice. */
  close(why: Fault): void {
    if (this.#end !== undefined) return;
    this.#end = why;
    this.#socket.destroy();
    for (const waiting of this.#waiting.values()) waiting.reject(why);
    this.#waiting.clear();
    this.#closed.resolve();
  }

  /** Fault 'timeout' when no answer came, 'unavailable' when the connection ended, 'exhausted' when the request is too long to send; RpcError is the plugin's own. */
  async call(target: CallTarget, payload: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#end !== undefined) throw this.#end;
    const stream = this.#nextStream;
    const message = encodeRequest(stream, { ...target, payload, timeoutNano: BigInt(timeoutMs) * 1_000_000n });
    this.#nextStream += 2;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const late = setTimeout(() => reject(new Fault('timeout', `no answer to ${target.method} within ${timeoutMs} ms`)), timeoutMs);
    this.#waiting.set(stream, { resolve, reject });
    this.#write(pluginChannel, message);
    try {
      return await promise;
    } finally {
      clearTimeout(late);
      this.#waiting.delete(stream);
    }
  }

  #take(message: Message): void {
    // Nobody waits any more for an answer that came too late.
    const waiting = message.kind === 'response' ? this.#waiting.get(message.stream) : undefined;
    if (message.kind !== 'response' || waiting === undefined) return;
    const { status, payload } = message.response;
    if (status === undefined || status.code === rpcCode.ok) waiting.resolve(payload);
    else waiting.reject(new RpcError(status.code, status.message));
  }

  #answer(message: Message, service: string): void {
    if (message.kind === 'bad-request') return this.#refuse(message.stream, message.code, message.message);
    if (message.kind !== 'request') return;
    const { stream, request } = message;
    if (request.service !== service) return this.#refuse(stream, rpcCode.unimplemented, `no service ${JSON.stringify(request.service)}`);
    if (this.#served >= maxServed) return this.#refuse(stream, rpcCode.resourceExhausted, `${maxServed} calls are under way`);
    this.#served++;
    this.#serve(request.method, request.payload)
      .then((payload) => this.#write(runtimeChannel, encodeResponse(stream, { status: undefined, payload })))
      .catch((error: unknown) => this.#refuse(stream, error instanceof Fault && error.kind === 'unimplemented' ? rpcCode.unimplemented : rpcCode.unknown, explain(error)))
      .finally(() => this.#served--);
  }

  #refuse(stream: number, code: number, message: string): void {
    this.#write(runtimeChannel, encodeResponse(stream, { status: { code, message }, payload: new Uint8Array(0) }));
  }

  #write(channel: number, message: Buffer): void {
    if (this.#end !== undefined) return;
    this.#socket.cork();
    for (const part of muxFrames(channel, message)) this.#socket.write(part);
    this.#socket.uncork();
  }
}
