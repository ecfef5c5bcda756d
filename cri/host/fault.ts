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

/** Of what an outside program said, and of a whole story: gRPC sends it as a header, which a client refuses when it is long. */
const longestPart = 2000;
const longestStory = 4000;

/** The beginning and the end of a text that is too long. */
const shortened = (text: string, limit: number): string => (text.length <= limit ? text : `${text.slice(0, limit / 2)} … ${text.slice(-limit / 2)}`);

/**
 * The whole story in one line: the message of the error and of its causes, outermost first, without repeating what the outer one already says.
 * What is too long for a message loses its middle.
 */
export function explain(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && parts.length < 8; current = current instanceof Error ? current.cause : undefined) {
    const text = shortened(current instanceof Error ? current.message : String(current), longestPart);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
  }
  return shortened(parts.join(': '), longestStory);
}
