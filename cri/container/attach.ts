/**
 * Attach: a client at the streams of the container's own process, beside others who may be attached too. It sees what is written from now on.
 *
 * The monitor waits for whoever reads slowly, and with it the container, its log and all other clients (conmon 2.1.6 writes to them blocking).
 * So a client that reads slowly slows the container, as at any pipe, but one that takes nothing at all is sent away:
 *
 *   reads on ──backlog over the limit──▶ waits for the client ──it took some──▶ reads on
 *                                                             └──nothing for `patienceMs`──▶ Fault exhausted, disconnected
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Writable } from 'node:stream';
import type { Ctx } from '#host/ctx.ts';
import { Fault, isFault } from '#host/fault.ts';
import type { SeqpacketStream } from '#host/seqpacket.ts';
import { connectToMonitor, resizeMessage, stderrPacket, stdoutPacket, writeControl } from '../oci/conmon.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ProcessIo, TerminalSize } from '../streaming/targets.ts';
import { feed } from './feed.ts';

/** What one client may leave unread before anybody waits for it. */
const longestBacklogBytes = 1024 * 1024;
/** How long the container may stand still for one client. */
const patienceMs = 2000;
/** The monitor takes one message per read: the next must not be there before it has read the last. */
const resizeGapMs = 20;

/**
 * Until the container ends; then all that it wrote is in `io`. Fault 'precondition' when it does not run, 'canceled' when `ctx` ended,
 * 'exhausted' when the client does not read.
 */
export async function attach(ctx: Ctx, deps: { containers: Pick<ContainerStore, 'get'> }, request: { containerId: string; tty: boolean }, io: ProcessIo): Promise<void> {
  const { id, state, bundleDir, config } = deps.containers.get(request.containerId);
  if (state.name !== 'created' && state.name !== 'running') throw new Fault('precondition', `container ${id} is not running`);
  ctx.signal.throwIfAborted();
  const monitor = connectToMonitor(bundleDir);
  const leave = (): void => void monitor.destroy();
  ctx.signal.addEventListener('abort', leave, { once: true });
  const stopFeeding = io.stdin === undefined ? undefined : config.stdin ? feed(io.stdin, monitor, { end: true }) : void io.stdin.resume();
  if (request.tty) resize(bundleDir, io.resizes).catch((err: unknown) => ctx.log.debug({ err, container: id }, 'no more resizing'));
  try {
    await forward(monitor, io);
  } catch (error) {
    if (ctx.signal.aborted) throw new Fault('canceled', `attach to container ${id}: the client went away`, ctx.signal.reason);
    if (isFault(error, 'exhausted')) throw new Fault('exhausted', `attach to container ${id}`, error);
    throw error;
  } finally {
    ctx.signal.removeEventListener('abort', leave);
    stopFeeding?.();
    monitor.destroy();
  }
}

async function forward(monitor: SeqpacketStream, io: ProcessIo): Promise<void> {
  const sinks = new Map([[stdoutPacket, io.stdout], [stderrPacket, io.stderr]]);
  for await (const packet of monitor as AsyncIterable<Buffer>) {
    const sink = sinks.get(packet[0] ?? 0);
    if (sink === undefined || sink.destroyed) continue;
    sink.write(packet.subarray(1));
    if (sink.writableLength > longestBacklogBytes) await letRead(sink);
  }
}

/** Returns when the backlog is below the limit again. */
async function letRead(sink: Writable): Promise<void> {
  while (sink.writableLength > longestBacklogBytes && !sink.destroyed) {
    const before = sink.writableLength;
    await changed(sink);
    if (sink.writableLength >= before && !sink.destroyed) throw new Fault('exhausted', `the client does not read: it left ${before} bytes lying for ${patienceMs} ms`);
  }
}

/** Returns when the sink was emptied or closed, or after the patience. */
async function changed(sink: Writable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => resolve();
  const timer = setTimeout(done, patienceMs);
  sink.once('drain', done).once('close', done);
  await promise;
  clearTimeout(timer);
  sink.off('drain', done).off('close', done);
}

async function resize(bundleDir: string, sizes: AsyncIterable<TerminalSize>): Promise<void> {
  for await (const size of sizes) {
    await writeControl(bundleDir, resizeMessage(size));
    await sleep(resizeGapMs);
  }
}
