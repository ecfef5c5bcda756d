/** Waiting in tests for what comes by itself. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Tries until `check` does not throw; its last error after 30 s, which means never. */
export async function eventually(check: () => void | Promise<void>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
    await sleep(5);
  }
}
