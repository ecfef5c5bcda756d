/** The context of a piece of work: when to stop, and where to write. First parameter of every function with effects; never stored in an object. */
import type { Logger } from 'pino';

export interface Ctx {
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** The same work, given up after `timeoutMs`; `signal.reason` is then a TimeoutError. */
export const withTimeout = (ctx: Ctx, timeoutMs: number): Ctx => ({ ...ctx, signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(timeoutMs)]) });

/** The same work, with these fields on every line it logs. */
export const withFields = (ctx: Ctx, fields: Record<string, unknown>): Ctx => ({ ...ctx, log: ctx.log.child(fields) });

/** For clean-up after a failure: the caller's cancellation must not cancel the undoing. */
export const detached = (ctx: Ctx, timeoutMs = 60_000): Ctx => ({ ...ctx, signal: AbortSignal.timeout(timeoutMs) });

/** True when the work was given up because its time ran out (rather than because the caller went away). */
export const timedOut = (ctx: Ctx): boolean =>
  ctx.signal.aborted && ctx.signal.reason instanceof DOMException && ctx.signal.reason.name === 'TimeoutError';
