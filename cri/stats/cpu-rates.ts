/** Cores in use, from two readings of a counter: nothing is sampled while nobody asks. Pure: times are arguments. */

interface Sample {
  readonly usageNs: bigint;
  readonly atNs: bigint;
}

/** Readings closer together than this say little: the last rate is given again. */
const shortestNs = 1_000_000_000n;

export class CpuRates {
  readonly #base = new Map<string, Sample>();
  readonly #rates = new Map<string, bigint>();

  /** Billionths of a core since an earlier asking at least a second ago; undefined at the first, and after the counter began anew. */
  nanoCores(key: string, now: Sample): bigint | undefined {
    const before = this.#base.get(key);
    if (before === undefined || now.usageNs < before.usageNs) {
      this.#base.set(key, now);
      this.#rates.delete(key);
      return undefined;
    }
    const elapsedNs = now.atNs - before.atNs;
    if (elapsedNs < shortestNs) return this.#rates.get(key);
    const rate = ((now.usageNs - before.usageNs) * 1_000_000_000n) / elapsedNs;
    this.#base.set(key, now);
    this.#rates.set(key, rate);
    return rate;
  }

  forget(key: string): void {
    this.#base.delete(key);
    this.#rates.delete(key);
  }
}
