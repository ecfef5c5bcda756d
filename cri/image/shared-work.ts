/** Work that several callers wait for: started by the first, joined by the others, given up when the last of them has gone away. */
import type { Ctx } from '#host/ctx.ts';
import { unlessGivenUp } from '#host/give-up.ts';

interface Flight<Result> {
  readonly result: Promise<Result>;
  readonly giveUp: AbortController;
  waiting: number;
}

export class SharedWork<Result> {
  readonly #flights = new Map<string, Flight<Result>>();

  get size(): number {
    return this.#flights.size;
  }
  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /**
   * The result of `work` for `key`. Its ctx has the first caller's log and a signal of its own. A caller whose ctx ends gets that ctx's reason;
   * the work goes on while others wait. Who comes after the last has gone waits until the old work has ended and starts it anew.
   */
  async join(ctx: Ctx, key: string, work: (ctx: Ctx) => Promise<Result>): Promise<Result> {
    ctx.signal.throwIfAborted();
    let flight = this.#flights.get(key);
    while (flight?.giveUp.signal.aborted === true) {
      await flight.result.catch(() => undefined);
      ctx.signal.throwIfAborted();
      flight = this.#flights.get(key);
    }
    flight ??= this.#start(ctx, key, work);
    return this.#wait(ctx, flight);
  }

  #start(ctx: Ctx, key: string, work: (ctx: Ctx) => Promise<Result>): Flight<Result> {
    const giveUp = new AbortController();
    const result = (async () => work({ log: ctx.log, signal: giveUp.signal }))().finally(() => this.#flights.delete(key));
    const flight = { result, giveUp, waiting: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  async #wait(ctx: Ctx, flight: Flight<Result>): Promise<Result> {
    flight.waiting += 1;
    try {
      return await unlessGivenUp(ctx, flight.result);
    } finally {
      flight.waiting -= 1;
      // Never awaited by anybody any more: its failure is nobody's.
      if (flight.waiting === 0) {
        flight.result.catch(() => undefined);
        flight.giveUp.abort(new DOMException('nobody waits for it any more', 'AbortError'));
      }
    }
  }
}
