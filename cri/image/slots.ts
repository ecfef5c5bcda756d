/** At most so many at a time, in order of arrival. Pure. */
import type { Ctx } from '#host/ctx.ts';

export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** A slot until it is disposed. Throws the reason of a ctx that has ended. */
  async take(ctx: Ctx): Promise<Disposable> {
    ctx.signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const leave = (): void => {
        const at = this.#waiting.indexOf(resolve);
        if (at < 0) return; // it was given the slot a moment ago
        this.#waiting.splice(at, 1);
        reject(ctx.signal.reason as Error);
      };
      this.#waiting.push(resolve);
      ctx.signal.addEventListener('abort', leave, { once: true });
      await promise.finally(() => ctx.signal.removeEventListener('abort', leave));
    }
    return this.#slot();
  }

  /** One that nobody waits for, undefined when there is none. */
  tryTake(): Disposable | undefined {
    if (this.#free === 0) return undefined;
    this.#free -= 1;
    return this.#slot();
  }

  #slot(): Disposable {
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        const next = this.#waiting.shift();
        if (next === undefined) this.#free += 1;
        else next();
      },
    };
  }
}
