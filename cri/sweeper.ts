/** When layers and blobs that nobody refers to are looked for: soon after an image went, and now and then. One sweep at a time. */
import type { Ctx } from '#host/ctx.ts';

const everyMs = 10 * 60_000;
/** Several images often go together. */
const soonMs = 1000;

export class Sweeper {
  readonly #ctx: Ctx;
  readonly #sweep: (ctx: Ctx) => Promise<void>;
  readonly #regular: NodeJS.Timeout;
  #soon: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  /** Runs until `stop`; does not keep the process alive. */
  constructor(ctx: Ctx, sweep: (ctx: Ctx) => Promise<void>) {
    this.#ctx = ctx;
    this.#sweep = sweep;
    this.#regular = setInterval(() => this.#run(), everyMs).unref();
  }

  /** An image was removed: its room is wanted back. */
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
        if (!this.#ctx.signal.aborted) this.#ctx.log.warn({ err: error }, 'sweep of images failed');
      })
      .finally(() => (this.#running = undefined));
  }
}
