/** Fault kinds as gRPC codes. Pure. */
import { status as Code } from '@grpc/grpc-js';
import { explain, Fault, type FaultKind } from '#host/fault.ts';

const codes = {
  'not-found': Code.NOT_FOUND,
  'already-exists': Code.ALREADY_EXISTS,
  invalid: Code.INVALID_ARGUMENT,
  precondition: Code.FAILED_PRECONDITION,
  unavailable: Code.UNAVAILABLE,
  exhausted: Code.RESOURCE_EXHAUSTED,
  timeout: Code.DEADLINE_EXCEEDED,
  canceled: Code.CANCELLED,
  unimplemented: Code.UNIMPLEMENTED,
  unauthorized: Code.UNAUTHENTICATED,
  forbidden: Code.PERMISSION_DENIED,
  // The kubelet and crictl show Unknown as it is; Internal is what a gRPC library itself says when it breaks.
  internal: Code.UNKNOWN,
} as const satisfies Record<FaultKind, Code>;

/** What the client gets: the code and the whole chain of messages. Anything that is not a Fault is Unknown. */
export const grpcStatus = (error: unknown): { code: Code; details: string } => ({
  code: error instanceof Fault ? codes[error.kind] : Code.UNKNOWN,
  details: explain(error),
});
