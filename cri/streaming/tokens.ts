/** Requests that wait for their client, each under a token that works once and for one minute. */
import { randomBytes } from 'node:crypto';
import { Fault } from '#host/fault.ts';

const tokenBytes = 32;
const lifeMs = 60_000;
const maxWaiting = 1000;

export class Tokens<Request> {
  /** Oldest first. */
  readonly #waiting = new Map<string, { readonly request: Request; readonly endsMs: number }>();
  readonly #nowMs: () => number;

  /** `nowMs` is a clock that never jumps. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Fault exhausted when too many wait. */
  issue(request: Request): string {
    const nowMs = this.#nowMs();
    for (const [token, { endsMs }] of this.#waiting) {
      if (endsMs > nowMs) break;
      this.#waiting.delete(token);
    }
    if (this.#waiting.size >= maxWaiting) throw new Fault('exhausted', `${maxWaiting} streaming requests wait for their clients already`);
    const token = randomBytes(tokenBytes).toString('base64url');
    this.#waiting.set(token, { request, endsMs: nowMs + lifeMs });
    return token;
  }

  /** Undefined for a token that is unknown, used or too old. */
  redeem(token: string): Request | undefined {
    const found = this.#waiting.get(token);
    this.#waiting.delete(token);
    return found !== undefined && found.endsMs > this.#nowMs() ? found.request : undefined;
  }
}
