/** What work in progress needs and the sweep must therefore leave: digests of blobs and chain ids of layers, counted. Pure. */

export class Holds {
  readonly #counts = new Map<string, number>();

  has(name: string): boolean {
    return this.#counts.has(name);
  }

  /** `using held = holds.take([…])`: held until disposed. */
  take(names: readonly string[]): Disposable {
    for (const name of names) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        for (const name of names) {
          const left = (this.#counts.get(name) ?? 0) - 1;
          if (left > 0) this.#counts.set(name, left);
          else this.#counts.delete(name);
        }
      },
    };
  }
}
