/** Much short synchronous work, in slices: everybody who waits for a turn shares a few milliseconds per round of the event loop. */
import { setImmediate as nextRound } from 'node:timers/promises';

const sliceMs = 2;
let sliceEndsAtMs: number | undefined;

/** Resolves when the caller may work synchronously for a moment. */
export async function turn(): Promise<void> {
  while (sliceEndsAtMs !== undefined && performance.now() > sliceEndsAtMs) await nextRound();
  if (sliceEndsAtMs !== undefined) return;
  sliceEndsAtMs = performance.now() + sliceMs;
  setImmediate(() => { sliceEndsAtMs = undefined; });
}
