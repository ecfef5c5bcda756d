/** Between grpc-js and a verb: makes the call's Ctx, logs the call once, turns a failure into a gRPC status. */
import type { Deadline, handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { Metadata, type ServiceError, status as Code } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { grpcStatus } from './fault-code.ts';

export type Verb<Request, Response> = (ctx: Ctx, request: Request) => Promise<Response> | Response;

/** Questions are asked every second by a kubelet: they are logged only at debug. */
const isQuestion = (rpc: string): boolean => /^(List|Stream|Version|Status|RuntimeConfig|ExecSync|.*Status$|.*Stats$|ImageFsInfo|Get)/.test(rpc);

/**
 * The signal is aborted when the client goes away, with a TimeoutError when its deadline passed. `answered` says that it cannot any more: grpc-js calls
 * every call cancelled at its end.
 */
function callCtx(call: { on(event: 'cancelled', listener: () => void): unknown; getDeadline(): Deadline }, log: Logger): { ctx: Ctx; answered: () => void } {
  const gone = new AbortController();
  let isAnswered = false;
  call.on('cancelled', () => {
    if (isAnswered) return;
    const isLate = Date.now() >= Number(call.getDeadline()) - 1;
    gone.abort(isLate ? new DOMException('the deadline of the call has passed', 'TimeoutError') : new DOMException('the client went away', 'AbortError'));
  });
  return { ctx: { signal: gone.signal, log }, answered: () => { isAnswered = true; } };
}

/** A unary call. A throw of any kind becomes a status; it never ends the server. */
export function unary<Request, Response>(log: Logger, rpc: string, verb: Verb<Request, Response>): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const own = log.child({ rpc });
    const { ctx, answered } = callCtx(call, own);
    void logged(own, rpc, async () => verb(ctx, call.request)).finally(answered).then(
      (response) => callback(null, response),
      (error: unknown) => callback(failure(error)),
    );
  };
}

/** A call whose answer is a stream. The next message is asked for when the last one has left, so a slow client holds up only itself. */
export function serverStream<Request, Response>(
  log: Logger, rpc: string, produce: (ctx: Ctx, request: Request) => AsyncIterable<Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const own = log.child({ rpc });
    const { ctx, answered } = callCtx(call, own);
    // The client learns at once that it is being served, even when nothing comes for long.
    call.sendMetadata(new Metadata());
    void logged(own, rpc, async () => {
      for await (const message of produce(ctx, call.request)) {
        if (!(await written(ctx, (done) => call.write(message, done)))) return;
      }
    }).finally(answered).then(
      () => call.end(),
      (error: unknown) => call.emit('error', failure(error)),
    );
  };
}

/** False when the client is gone: grpc-js never calls back then. */
async function written(ctx: Ctx, write: (done: (error: Error | null | undefined) => void) => void): Promise<boolean> {
  if (ctx.signal.aborted) return false;
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const give = (): void => resolve(false);
  ctx.signal.addEventListener('abort', give, { once: true });
  write((error) => (error ? reject(error) : resolve(true)));
  try {
    return await promise;
  } finally {
    ctx.signal.removeEventListener('abort', give);
  }
}

async function logged<T>(log: Logger, rpc: string, work: () => Promise<T>): Promise<T> {
  const startMs = monotonicMs();
  const tookMs = (): number => Math.round(monotonicMs() - startMs);
  try {
    const result = await work();
    log[isQuestion(rpc) ? 'debug' : 'info']({ tookMs: tookMs() }, 'done');
    return result;
  } catch (error) {
    const { code } = grpcStatus(error);
    const level = code === Code.NOT_FOUND || code === Code.UNIMPLEMENTED || code === Code.CANCELLED ? 'debug' : 'warn';
    log[level]({ err: error, tookMs: tookMs() }, 'failed');
    throw error;
  }
}

function failure(error: unknown): ServiceError {
  const { code, details } = grpcStatus(error);
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}
