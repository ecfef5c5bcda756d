/**
 * One creation per name at a time. A kubelet whose deadline passed repeats its request under the same name: it joins the work that is
 * still going on, and an answer that nobody received is kept for it. Pure.
 */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';

export class Flights<Result> {
  readonly #flying = new Map<string, Promise<Result>>();
  readonly #unheard = new Map<string, Result>();

  /**
   * The result of `work` for `name`, which is started unless it is under way. The work itself is not given up with `ctx`: only the
   * waiting is, with Fault canceled.
   */
  async join(ctx: Ctx, name: string, work: () => Promise<Result>): Promise<Result> {
    const kept = this.#unheard.get(name);
    if (kept !== undefined) {
      this.#unheard.delete(name);
      return kept;
    }
    let flight = this.#flying.get(name);
    if (flight === undefined) {
      flight = work().finally(() => this.#flying.delete(name));
      this.#flying.set(name, flight);
    }
    const result = await this.#unlessGivenUp(ctx, name, flight);
    this.#unheard.delete(name);
    return result;
  }

  /** An answer of an earlier daemon, which may not have been received: kept for the request that is repeated. */
  keep(name: string, result: Result): void {
    this.#unheard.set(name, result);
  }

  /** Drops a kept answer: what it named is gone, or is not as it was made any more. */
  forget(name: string): void {
    this.#unheard.delete(name);
  }

  #unlessGivenUp(ctx: Ctx, name: string, flight: Promise<Result>): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const giveUp = (): void => {
      flight.then(
        (result) => this.#unheard.set(name, result),
        () => undefined,
      );
      reject(new Fault('canceled', `${name}: the caller went away; the work goes on`, ctx.signal.reason));
    };
    ctx.signal.addEventListener('abort', giveUp, { once: true });
    flight.then(resolve, reject).finally(() => ctx.signal.removeEventListener('abort', giveUp));
    return promise;
  }
}
