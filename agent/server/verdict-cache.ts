/** Remembers answers for a while, so that each request does not ask the API server again. */

export class VerdictCache<Verdict> {
  readonly #entries = new Map<string, { readonly verdict: Verdict; readonly untilMs: number }>();
  readonly #limit: number;

  constructor(limit = 1000) {
    this.#limit = limit;
  }

  get(key: string, nowMs: number): Verdict | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (nowMs < entry.untilMs) return entry.verdict;
    this.#entries.delete(key);
    return undefined;
  }

  /** The oldest entry makes room when there are too many: strangers cannot fill the memory. */
  set(key: string, verdict: Verdict, forMs: number, nowMs: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { verdict, untilMs: nowMs + forMs });
    if (this.#entries.size <= this.#limit) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}
