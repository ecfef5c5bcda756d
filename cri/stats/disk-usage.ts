/** What each container has written, remembered for a while: walking a tree costs more than anybody's curiosity is worth. */
import type { Ctx } from '#host/ctx.ts';
import type { TreeUsage } from '#host/disk.ts';

/** containerd's snapshot statistics are as old. */
const freshForMs = 10_000;
/** A walk that takes long is repeated the less often. */
const costFactor = 20;

interface Known {
  readonly usage: TreeUsage;
  readonly validUntilMs: number;
}

export class DiskUsage {
  readonly #walk: (ctx: Ctx, dir: string) => Promise<TreeUsage>;
  readonly #now: () => number;
  readonly #known = new Map<string, Known>();
  readonly #walking = new Map<string, Promise<TreeUsage>>();

  /** `now` in ms of any clock that never jumps. */
  constructor(walk: (ctx: Ctx, dir: string) => Promise<TreeUsage>, now: () => number) {
    this.#walk = walk;
    this.#now = now;
  }

  /** At most one walk per directory at a time, at least ten seconds apart. */
  async of(ctx: Ctx, dir: string): Promise<TreeUsage> {
    const known = this.#known.get(dir);
    if (known !== undefined && this.#now() < known.validUntilMs) return known.usage;
    let walking = this.#walking.get(dir);
    if (walking === undefined) {
      const startMs = this.#now();
      walking = this.#walk(ctx, dir)
        .then((usage) => {
          const endMs = this.#now();
          this.#known.set(dir, { usage, validUntilMs: endMs + Math.max(freshForMs, (endMs - startMs) * costFactor) });
          return usage;
        })
        .finally(() => this.#walking.delete(dir));
      this.#walking.set(dir, walking);
    }
    return walking;
  }

  forget(dir: string): void {
    this.#known.delete(dir);
  }
}
