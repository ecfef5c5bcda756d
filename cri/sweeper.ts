/** When rubbish of one kind is looked for: soon after something became rubbish, and now and then. One sweep at a time. */
import type { Ctx } from '#host/ctx.ts';

const everyMs = 10 * 60_000;
/** Several things often go together. */
const soonMs = 1000;

export class Sweeper {
  readonly #ctx: Ctx;
  readonly #what: string;
  readonly #sweep: (ctx: Ctx) => Promise<void>;
  readonly #regular: NodeJS.Timeout;
  #soon: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  /** Runs until `stop`; does not keep the process alive. `what` is for the log. */
  constructor(ctx: Ctx, what: string, sweep: (ctx: Ctx) => Promise<void>) {
    this.#ctx = ctx;
    this.#what = what;
    this.#sweep = sweep;
    this.#regular = setInterval(() => this.#run(), everyMs).unref();
  }

  /** Something became rubbish. */
  soon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      if (this.#running === undefined) this.#run();
      else this.soon();
    }, soonMs).unref();
  }

  stop(): void {
    clearInterval(this.#regular);
    clearTimeout(this.#soon);
  }

  #run(): void {
    this.#running ??= this.#sweep(this.#ctx)
      .catch((error: unknown) => {
        if (!this.#ctx.signal.aborted) this.#ctx.log.warn({ err: error, what: this.#what }, 'sweep failed');
      })
      .finally(() => (this.#running = undefined));
  }
}
