/** Waiting for the world: polls until something is as wanted, or says what was last seen. */
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';

export interface Patience {
  /** A limit so generous that reaching it means "never"; no test measures time with it. Default 90 s. */
  readonly withinMs?: number;
  readonly everyMs?: number;
}

/**
 * Reads until `accept` likes what was read (default: truthy) and returns that.
 * A read that throws counts as not yet; the last value or error is in the message when the limit is reached.
 */
export async function eventually<T>(what: string, read: () => T | Promise<T>, accept: (seen: T) => boolean = Boolean, patience: Patience = {}): Promise<T> {
  const { withinMs = 90_000, everyMs = 150 } = patience;
  const deadline = Date.now() + withinMs;
  for (;;) {
    let seen: T | Error;
    try {
      const value = await read();
      if (accept(value)) return value;
      seen = value;
    } catch (e) {
      seen = e instanceof Error ? e : new Error(String(e));
    }
    if (Date.now() >= deadline) {
      const last = seen instanceof Error ? seen.message : inspect(seen, { depth: 8, breakLength: 140 });
      throw new Error(`${what}: not within ${withinMs / 1000} s; last seen: ${last}`);
    }
    await sleep(everyMs);
  }
}
