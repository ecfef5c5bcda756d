/** Waiting that ends when its context does, while the work that is waited for goes on. */
import { type Ctx, timedOut } from './ctx.ts';
import { Fault } from './fault.ts';

/** What to say of work that ended because `ctx` did. */
export const givenUp = (ctx: Ctx, what: string): Fault => new Fault(timedOut(ctx) ? 'timeout' : 'canceled', what, ctx.signal.reason);

/** The result of `work`; when `ctx` ends first, rejects with Fault timeout or canceled that says `what`, or without that with the signal's reason. */
export async function unlessGivenUp<Result>(ctx: Ctx, work: Promise<Result>, what?: string): Promise<Result> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const give = (): void => reject(what === undefined ? ctx.signal.reason : givenUp(ctx, what));
  if (ctx.signal.aborted) give();
  ctx.signal.addEventListener('abort', give, { once: true });
  try {
    return await Promise.race([work, ended]);
  } finally {
    ctx.signal.removeEventListener('abort', give);
  }
}
