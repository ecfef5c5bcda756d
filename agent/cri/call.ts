/** One unary CRI call as a promise: cancelled with its context, bounded by a deadline, its gRPC error as a Fault. */
import { Metadata, status as Code, type CallOptions, type ClientUnaryCall, type ServiceError } from '@grpc/grpc-js';
import type { Ctx } from '#host/ctx.ts';
import { Fault, type FaultKind } from '#host/fault.ts';

export type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

const kinds: Readonly<Partial<Record<Code, FaultKind>>> = {
  [Code.NOT_FOUND]: 'not-found',
  [Code.ALREADY_EXISTS]: 'already-exists',
  [Code.INVALID_ARGUMENT]: 'invalid',
  [Code.FAILED_PRECONDITION]: 'precondition',
  [Code.UNAVAILABLE]: 'unavailable',
  [Code.RESOURCE_EXHAUSTED]: 'exhausted',
  [Code.DEADLINE_EXCEEDED]: 'timeout',
  [Code.CANCELLED]: 'canceled',
  [Code.UNIMPLEMENTED]: 'unimplemented',
  [Code.UNAUTHENTICATED]: 'unauthorized',
  [Code.PERMISSION_DENIED]: 'forbidden',
};

const goName: Readonly<Partial<Record<Code, string>>> = {
  [Code.NOT_FOUND]: 'NotFound', [Code.ALREADY_EXISTS]: 'AlreadyExists', [Code.INVALID_ARGUMENT]: 'InvalidArgument',
  [Code.FAILED_PRECONDITION]: 'FailedPrecondition', [Code.UNAVAILABLE]: 'Unavailable', [Code.RESOURCE_EXHAUSTED]: 'ResourceExhausted',
  [Code.DEADLINE_EXCEEDED]: 'DeadlineExceeded', [Code.CANCELLED]: 'Canceled', [Code.UNIMPLEMENTED]: 'Unimplemented',
  [Code.UNAUTHENTICATED]: 'Unauthenticated', [Code.PERMISSION_DENIED]: 'PermissionDenied', [Code.INTERNAL]: 'Internal', [Code.ABORTED]: 'Aborted',
  [Code.OUT_OF_RANGE]: 'OutOfRange', [Code.DATA_LOSS]: 'DataLoss',
};

/** The CRI server said no. `details` is its message alone; `message` is what Go's clients print, which users search for. */
export class CriError extends Fault {
  readonly details: string;
  constructor(error: ServiceError) {
    super(kinds[error.code] ?? 'internal', `rpc error: code = ${goName[error.code] ?? 'Unknown'} desc = ${error.details}`);
    this.name = 'CriError';
    this.details = error.code === Code.UNKNOWN ? error.details : this.message;
  }
}

/** Without `timeoutMs` the call lasts as long as the context. */
export function callCri<Request, Response>(ctx: Ctx, method: Unary<Request, Response>, request: Request, timeoutMs?: number): Promise<Response> {
  return new Promise((resolve, reject) => {
    if (ctx.signal.aborted) {
      reject(new Fault('canceled', 'the work was given up before the runtime was asked', ctx.signal.reason));
      return;
    }
    const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    const call = method(request, new Metadata(), options, (error, response) => {
      ctx.signal.removeEventListener('abort', cancel);
      if (error !== null) reject(new CriError(error));
      else resolve(response);
    });
    const cancel = (): void => call.cancel();
    ctx.signal.addEventListener('abort', cancel, { once: true });
  });
}
