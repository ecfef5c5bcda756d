/**
 * Exec and attach over any transport: gathers the streams, lets the target work on them, tells how it ended.
 *
 *   connected ──▶ streams are there ──▶ target works ──▶ output handed over ──▶ outcome told ──▶ goodbye
 *       └─ not within 30 s: hung up         └─ client gone, idle, or server stops: ctx of the target ends, hung up
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { Fault, isFault } from '#host/fault.ts';
import { type Channel, endChannel } from './channel.ts';
import type { Choice, ProcessVersion } from './negotiate.ts';
import type { ProcessRequest } from './request.ts';
import { type OnStream, SpdySession } from './spdy/session.ts';
import { encodeOutcome, type Outcome } from './status.ts';
import type { ProcessIo } from './targets.ts';
import { terminalSizes } from './terminal-sizes.ts';
import type { Transport } from './transport.ts';
import { WebSocketChannels } from './websocket/channels.ts';
import { WebSocketConnection } from './websocket/connection.ts';

/** Resolves with the exit code, if there is one. */
export type RunProcess = (ctx: Ctx, io: ProcessIo) => Promise<number | undefined>;

/** In a WebSocket their indexes are the numbers of the channels. */
const streamNames = ['stdin', 'stdout', 'stderr', 'error', 'resize'] as const;
type StreamName = (typeof streamNames)[number];
type Streams = ReadonlyMap<string, Channel>;

/** The connection below, SPDY or WebSocket. */
interface Carrier {
  serve(): Promise<void>;
  end(ctx: Pick<Ctx, 'signal'>): Promise<void>;
  hangUp(): void;
}

/** How long a client may take to open its streams. */
export const creationTimeoutMs = 30_000;

/** The streams that a request asks for; the client opens these and no others. */
function wantedStreams(request: ProcessRequest, version: ProcessVersion): StreamName[] {
  const { stdin, stdout, stderr, tty } = request;
  const asked: readonly [StreamName, boolean][] = [['error', true], ['stdin', stdin], ['stdout', stdout], ['stderr', stderr], ['resize', tty && version >= 3]];
  return asked.filter(([, isAsked]) => isAsked).map(([name]) => name);
}

/** Returns when the connection is closed. Fault timeout when the streams did not come, 'invalid' when the client does not keep to the protocol. */
export async function serveProcess(ctx: Ctx, session: { transport: Transport; choice: Choice; request: ProcessRequest }, run: RunProcess): Promise<void> {
  const { transport, choice, request } = session;
  const version = choice.way === 'tunnel' ? 1 : choice.version;
  const wanted = wantedStreams(request, version);
  const { carrier, streams } = choice.way === 'websocket' ? overWebSocket(transport, choice, request) : overSpdy(transport, wanted);
  const gone = new AbortController();
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, gone.signal]) };
  own.signal.addEventListener('abort', () => carrier.hangUp(), { once: true });
  const served = carrier.serve().finally(() => gone.abort(new Fault('canceled', 'the client is gone')));
  const work = async (): Promise<void> => {
    const all = await untilThere(own, streams);
    if (all === undefined) return carrier.hangUp();
    await tellOutcome(all, version, await outcomeOf(own, request, all, run));
    await carrier.end(own);
  };
  for (const each of await Promise.allSettled([served, work().finally(() => carrier.hangUp())])) if (each.status === 'rejected') throw each.reason;
}

/** Undefined when the client was gone before. */
async function untilThere(ctx: Ctx, streams: Promise<Streams>): Promise<Streams | undefined> {
  const there = new AbortController();
  try {
    const late = sleep(creationTimeoutMs, 'late' as const, { signal: AbortSignal.any([ctx.signal, there.signal]) }).catch(() => undefined);
    const first = await Promise.race([streams, late]);
    if (first === 'late') ctx.log.warn('the client did not open its streams in time');
    return first === 'late' ? undefined : first;
  } finally {
    there.abort();
  }
}

async function outcomeOf(ctx: Ctx, request: ProcessRequest, streams: Streams, run: RunProcess): Promise<Outcome> {
  const io: ProcessIo = {
    stdin: request.stdin ? streams.get('stdin') : undefined,
    stdout: request.stdout ? streams.get('stdout') : undefined,
    stderr: request.stderr ? streams.get('stderr') : undefined,
    resizes: terminalSizes(request.tty ? streams.get('resize') : undefined),
  };
  // Nobody sends anything on these, and if somebody does it must not fill the connection.
  for (const name of ['error', 'stdout', 'stderr', ...(request.tty ? [] : ['resize'])]) streams.get(name)?.resume();
  try {
    const code = await run(ctx, io);
    return code === undefined || code === 0 ? { kind: 'success' } : { kind: 'exit-code', code };
  } catch (error) {
    if (!ctx.signal.aborted) ctx.log[isFault(error) ? 'info' : 'error']({ err: error }, `${request.kind} failed`);
    return { kind: 'failure', what: request.kind === 'exec' ? 'executing command in' : 'attaching to', error };
  }
}

/** Behind all output: some clients stop reading at the outcome. */
async function tellOutcome(streams: Streams, version: ProcessVersion, outcome: Outcome): Promise<void> {
  await Promise.all(['stdout', 'stderr'].flatMap((name) => streams.get(name) ?? []).map(endChannel));
  const text = encodeOutcome(outcome, version);
  if (text.length > 0) streams.get('error')?.write(text);
}

const isStreamName = (name: string): name is StreamName => (streamNames as readonly string[]).includes(name);

function overSpdy(transport: Transport, wanted: readonly StreamName[]): { carrier: Carrier; streams: Promise<Streams> } {
  const opened = new Map<string, Channel>();
  const { promise, resolve } = Promise.withResolvers<Streams>();
  const onStream: OnStream = (channel, headers) => {
    const name = headers.get('streamtype') ?? '';
    if (!isStreamName(name) || opened.has(name)) return false;
    opened.set(name, channel);
    if (!wanted.includes(name)) channel.resume();
    if (wanted.every((each) => opened.has(each))) resolve(opened);
    return true;
  };
  return { carrier: new SpdySession(transport, onStream), streams: promise };
}

/** The channels have fixed numbers, and are there at once. */
function overWebSocket(transport: Transport, choice: Choice & { way: 'websocket' }, request: ProcessRequest): { carrier: Carrier; streams: Promise<Streams> } {
  const channels = new WebSocketChannels(new WebSocketConnection(transport), { isBase64: choice.isBase64, canHalfClose: choice.version >= 5 });
  const streams = new Map(streamNames.map((name, id) => [name, channels.add(id)]));
  if (!request.stdin) streams.get('stdin')?.resume();
  channels.announce(request.stdout ? streamNames.indexOf('stdout') : request.stderr ? streamNames.indexOf('stderr') : streamNames.indexOf('error'));
  return { carrier: channels, streams: Promise.resolve(streams) };
}
