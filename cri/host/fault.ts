/** The one error class of nodelet: a closed set of kinds that the edges translate into gRPC codes and HTTP statuses. */

export type FaultKind =
  | 'not-found'
  | 'already-exists'
  | 'invalid'
  | 'precondition'
  | 'unavailable'
  | 'exhausted'
  | 'timeout'
  | 'canceled'
  | 'unimplemented'
  | 'unauthorized'
  | 'forbidden'
  | 'internal';

/** `message` says what was being done to what; `cause` keeps why it failed. */
export class Fault extends Error {
  readonly kind: FaultKind;
  constructor(kind: FaultKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'Fault';
    this.kind = kind;
  }
}

export const isFault = (error: unknown, kind?: FaultKind): error is Fault => error instanceof Fault && (kind === undefined || error.kind === kind);

/** The whole story in one line: the message of the error and of its causes, outermost first, without repeating what the outer one already says. */
export function explain(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && parts.length < 8; current = current instanceof Error ? current.cause : undefined) {
    const text = current instanceof Error ? current.message : String(current);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
  }
  return parts.join(': ');
}
