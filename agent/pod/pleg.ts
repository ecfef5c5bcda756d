/** Relists the runtime every second and tells which pods changed: the agent's eyes for what it did not do itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import type { RuntimePod } from '../cri/observed.ts';
import type { Runtime } from '../cri/runtime.ts';
import { changedPods } from './pleg-diff.ts';

const relistMs = 1000;
const unhealthyAfterMs = 180_000;

export class Pleg {
  readonly #runtime: Pick<Runtime, 'listPods'>;
  readonly #changed: (uid: string) => void;
  readonly #nowMs: () => number;
  #pods: ReadonlyMap<string, RuntimePod> = new Map();
  #lastRelistMs: number | undefined;
  #turnedAtMs: number;
  #complaint: string | undefined;

  constructor(options: { runtime: Pick<Runtime, 'listPods'>; changed: (uid: string) => void; nowMs: () => number }) {
    this.#runtime = options.runtime;
    this.#changed = options.changed;
    this.#nowMs = options.nowMs;
    this.#turnedAtMs = options.nowMs();
  }

  /** As of the last relist. */
  get pods(): ReadonlyMap<string, RuntimePod> {
    return this.#pods;
  }

  /** Undefined when all is well, else the kubelet's words for the node's Ready condition. */
  problem(): string | undefined {
    if (this.#lastRelistMs === undefined) return 'PLEG is not healthy: pleg has yet to be successful';
    const agoMs = this.#nowMs() - this.#lastRelistMs;
    return agoMs <= unhealthyAfterMs ? undefined : `PLEG is not healthy: pleg was last seen active ${Math.round(agoMs / 1000)}s ago; threshold is 3m0s`;
  }

  /** Undefined while the loop turns, whether the runtime answers or not. */
  stuck(): string | undefined {
    const agoMs = this.#nowMs() - this.#turnedAtMs;
    return agoMs <= unhealthyAfterMs ? undefined : `the loop that looks at containers was last seen ${Math.round(agoMs / 1000)}s ago`;
  }

  async relist(ctx: Ctx): Promise<void> {
    const now = await this.#runtime.listPods(ctx);
    const before = this.#pods;
    this.#pods = now;
    this.#lastRelistMs = this.#nowMs();
    for (const uid of changedPods(before, now)) this.#changed(uid);
  }

  /** Until the context ends. */
  async run(ctx: Ctx): Promise<void> {
    while (!ctx.signal.aborted) {
      this.#turnedAtMs = this.#nowMs();
      try {
        await this.relist(ctx);
        if (this.#complaint !== undefined) ctx.log.info('the container runtime answers again');
        this.#complaint = undefined;
      } catch (error) {
        const complaint = explain(error);
        if (complaint !== this.#complaint && !ctx.signal.aborted) ctx.log.warn({ why: complaint }, 'the container runtime does not answer');
        this.#complaint = complaint;
      }
      await sleep(relistMs, undefined, { signal: ctx.signal }).catch(() => undefined); // aborted: the loop ends
    }
  }
}
