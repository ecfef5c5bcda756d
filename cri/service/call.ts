/** Between grpc-js and a verb: makes the call's Ctx, logs the call once, turns a failure into a gRPC status. */
import type { Deadline, handleUnaryCall } from '@grpc/grpc-js';
import { Metadata, status as Code } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { grpcStatus } from './fault-code.ts';

export type Verb<Request, Response> = (ctx: Ctx, request: Request) => Promise<Response> | Response;

/** Questions are asked every second by a kubelet: they are logged only at debug. */
const isQuestion = (rpc: string): boolean => /^(List|Stream|Version|Status|RuntimeConfig|ExecSync|.*Status$|.*Stats$|ImageFsInfo|Get)/.test(rpc);

/** The signal is aborted when the client goes away, with a TimeoutError when its deadline passed. */
function callCtx(call: { on(event: 'cancelled', listener: () => void): unknown; getDeadline(): Deadline }, log: Logger): Ctx {
  const gone = new AbortController();
  call.on('cancelled', () => {
    const isLate = Date.now() >= Number(call.getDeadline()) - 1;
    gone.abort(isLate ? new DOMException('the deadline of the call has passed', 'TimeoutError') : new DOMException('the client went away', 'AbortError'));
  });
  return { signal: gone.signal, log };
}

/** A unary call. A throw of any kind becomes a status; it never ends the server. */
export function unary<Request, Response>(log: Logger, rpc: string, verb: Verb<Request, Response>): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const startMs = monotonicMs();
    const own = log.child({ rpc });
    const ctx = callCtx(call, own);
    void (async () => {
      try {
        const response = await verb(ctx, call.request);
        own[isQuestion(rpc) ? 'debug' : 'info']({ tookMs: Math.round(monotonicMs() - startMs) }, 'done');
        callback(null, response);
      } catch (error) {
        const { code, details } = grpcStatus(error);
        const level = code === Code.NOT_FOUND || code === Code.UNIMPLEMENTED || code === Code.CANCELLED ? 'debug' : 'warn';
        own[level]({ err: error, tookMs: Math.round(monotonicMs() - startMs) }, 'failed');
        callback({ code, details, metadata: new Metadata(), name: 'ServiceError', message: details });
      }
    })();
  };
}
