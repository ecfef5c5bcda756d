/** News for whoever listens. A listener that is slow loses the oldest; nothing grows. */

interface Listener<Event> {
  readonly queue: Event[];
  wake: () => void;
  lost: number;
}

interface Kept<Event> {
  readonly event: Event;
  readonly atMs: number;
}

export interface HubLimits {
  /** Per listener. */
  readonly queued: number;
  /** While nobody listens, for whoever comes next. */
  readonly kept: number;
  readonly keptForMs: number;
}

/** As long as containerd keeps events that nobody has heard. */
const defaultLimits: HubLimits = { queued: 1000, kept: 100, keptForMs: 5 * 60_000 };

export class EventHub<Event> {
  readonly #limits: HubLimits;
  readonly #now: () => number;
  readonly #listeners = new Set<Listener<Event>>();
  readonly #closed = new AbortController();
  #kept: Kept<Event>[] = [];
  #lost = 0;

  /** `now` in ms of any clock that never jumps. */
  constructor(now: () => number, limits = defaultLimits) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Events that slow listeners have missed. */
  get lost(): number {
    return this.#lost;
  }

  publish(event: Event): void {
    for (const listener of this.#listeners) {
      if (listener.queue.length >= this.#limits.queued) {
        listener.queue.shift();
        listener.lost += 1;
        this.#lost += 1;
      }
      listener.queue.push(event);
      listener.wake();
    }
    if (this.#listeners.size > 0) return;
    this.#kept.push({ event, atMs: this.#now() });
    if (this.#kept.length > this.#limits.kept) this.#kept.shift();
  }

  /** What was kept, then what comes, until `signal` is aborted or the hub closed. `onLoss` is told the first time that something was missed. */
  async *listen(signal: AbortSignal, onLoss: () => void = () => undefined): AsyncGenerator<Event, void, undefined> {
    const ends = AbortSignal.any([signal, this.#closed.signal]);
    const listener = this.#add();
    let told = false;
    const wake = (): void => listener.wake();
    ends.addEventListener('abort', wake, { once: true });
    try {
      while (!ends.aborted) {
        const event = listener.queue.shift();
        if (event !== undefined) yield event;
        else await new Promise<void>((resolve) => { listener.wake = resolve; });
        if (listener.lost > 0 && !told) {
          told = true;
          onLoss();
        }
      }
    } finally {
      ends.removeEventListener('abort', wake);
      this.#listeners.delete(listener);
    }
  }

  #add(): Listener<Event> {
    const oldestMs = this.#now() - this.#limits.keptForMs;
    const listener = { queue: this.#kept.filter(({ atMs }) => atMs >= oldestMs).map(({ event }) => event), wake: () => undefined, lost: 0 };
    this.#kept = [];
    this.#listeners.add(listener);
    return listener;
  }

  /** Every listener's iteration ends. */
  close(): void {
    this.#closed.abort();
  }
}
