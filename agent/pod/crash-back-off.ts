/** How long a container that keeps ending waits: 10 s doubled up to a cap, from the start again after a long enough run. Source: kubelet doBackOff. */

interface Entry {
  readonly delayMs: number;
  readonly startedAtMs: number;
}

export class CrashBackOff {
  readonly #entries = new Map<string, Entry>();
  readonly #initialMs: number;
  readonly #capMs: number;

  constructor(options: { initialMs?: number; capMs?: number } = {}) {
    this.#capMs = options.capMs ?? 300_000;
    this.#initialMs = Math.min(options.initialMs ?? 10_000, this.#capMs);
  }

  /** The delay in force for a run that ended at `finishedAtMs`, and what is left of it; undefined: it may start. */
  held(key: string, finishedAtMs: number, nowMs: number): { readonly delayMs: number; readonly leftMs: number } | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || this.#isOver(entry, finishedAtMs)) return undefined;
    const leftMs = finishedAtMs + entry.delayMs - nowMs;
    return leftMs > 0 ? { delayMs: entry.delayMs, leftMs } : undefined;
  }

  /** A restart after a run that ended at `finishedAtMs` begins now; the next one will wait longer. */
  started(key: string, finishedAtMs: number, nowMs: number): void {
    const entry = this.#entries.get(key);
    const delayMs = entry === undefined || this.#isOver(entry, finishedAtMs) ? this.#initialMs : Math.min(entry.delayMs * 2, this.#capMs);
    this.#entries.set(key, { delayMs, startedAtMs: nowMs });
  }

  forget(prefix: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) this.#entries.delete(key);
  }

  /** The run was longer than twice the cap: whatever was wrong is not wrong any more. */
  #isOver(entry: Entry, finishedAtMs: number): boolean {
    return finishedAtMs - entry.startedAtMs > 2 * this.#capMs;
  }
}

/** `10s`, `2m40s`: as Go prints a duration of whole seconds. */
export function goSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds % 60}s`;
}
