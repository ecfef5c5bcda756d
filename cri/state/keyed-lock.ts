/** One writer per key, in order of arrival. Pure. */

export class KeyedLock<Key> {
  readonly #tails = new Map<Key, Promise<void>>();

  /** `await using _ = await lock.hold(key)`: waits for those before; the next one goes on when it is disposed. */
  async hold(key: Key): Promise<Disposable> {
    const before = this.#tails.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    const tail = (before ?? Promise.resolve()).then(() => promise);
    this.#tails.set(key, tail);
    await before;
    return {
      [Symbol.dispose]: () => {
        resolve();
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      },
    };
  }
}
