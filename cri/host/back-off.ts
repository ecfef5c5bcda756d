/** Doubling delays per key with a cap, forgotten after a quiet time: the kubelet's flow control for crashing containers and failing pulls. Pure: the clock is an argument. */

export interface BackOffOptions {
  readonly initialMs: number;
  readonly capMs: number;
  /** A key whose last failure is longer ago than this starts from the beginning. */
  readonly resetAfterMs: number;
}

interface Entry {
  readonly delayMs: number;
  readonly atMs: number;
}

export class BackOff<Key> {
  readonly #options: BackOffOptions;
  readonly #entries = new Map<Key, Entry>();
  constructor(options: BackOffOptions) {
    this.#options = options;
  }

  /** Notes a failure now and returns the delay in ms that follows it: initial, then doubled each time up to the cap. */
  next(key: Key, nowMs: number): number {
    const last = this.#current(key, nowMs);
    const delayMs = last === undefined ? this.#options.initialMs : Math.min(last.delayMs * 2, this.#options.capMs);
    this.#entries.set(key, { delayMs, atMs: nowMs });
    return delayMs;
  }

  /** The delay last given out for `key`, 0 when there is none. */
  delayMs(key: Key, nowMs: number): number {
    return this.#current(key, nowMs)?.delayMs ?? 0;
  }

  /** How much of the delay is left when it counts from `sinceMs` (by default from the failure); 0 when it may be tried. */
  delayLeftMs(key: Key, nowMs: number, sinceMs?: number): number {
    const entry = this.#current(key, nowMs);
    return entry === undefined ? 0 : Math.max(0, (sinceMs ?? entry.atMs) + entry.delayMs - nowMs);
  }

  reset(key: Key): void {
    this.#entries.delete(key);
  }

  /** Forgets the keys whose quiet time is over. */
  collect(nowMs: number): void {
    for (const [key, entry] of this.#entries) if (nowMs - entry.atMs > this.#options.resetAfterMs) this.#entries.delete(key);
  }

  #current(key: Key, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined || nowMs - entry.atMs > this.#options.resetAfterMs ? undefined : entry;
  }
}
