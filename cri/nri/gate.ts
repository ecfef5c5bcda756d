/**
 * Lets many in at once, or one who wants nobody inside. Who is inside may be waited for by others, so a closing that waits keeps nobody out: it
 * comes when the gate is empty for a moment. Pure.
 */
export class Gate {
  #inside = 0;
  #closed: Promise<void> | undefined;
  #emptied: PromiseWithResolvers<void> | undefined;

  /** At once unless the gate is closed. */
  async enter(): Promise<Disposable> {
    while (this.#closed !== undefined) await this.#closed;
    this.#inside++;
    return { [Symbol.dispose]: () => this.#leave() };
  }

  /** Nobody is inside until it is disposed. */
  async close(): Promise<Disposable> {
    while (this.#inside > 0 || this.#closed !== undefined) {
      if (this.#closed !== undefined) await this.#closed;
      else await (this.#emptied ??= Promise.withResolvers<void>()).promise;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    return {
      [Symbol.dispose]: () => {
        this.#closed = undefined;
        resolve();
      },
    };
  }

  #leave(): void {
    this.#inside--;
    if (this.#inside > 0) return;
    this.#emptied?.resolve();
    this.#emptied = undefined;
  }
}
