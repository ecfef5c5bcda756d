/**
 * The configuration of a running nodelet, read again on SIGHUP and when its files change. What is wrong changes nothing; what cannot
 * change while it runs is named. Containers are never touched.
 */
import { basename, dirname } from 'node:path';
import type { Ctx } from '../ctx.ts';
import { explain } from '../fault.ts';
import { watchDirectory } from '../watch-dir.ts';
import { changedKeys, type Composition, type Settings } from './settings.ts';

/** Takes over the live keys `changed`, dotted and below its section. All or nothing: throws Fault when a value cannot be used. */
export type TakeOver = (ctx: Ctx, settings: Settings, changed: readonly string[]) => Promise<void>;

export interface ReloadDeps {
  readonly composition: Composition;
  /** Fault invalid with everything that is wrong. */
  readonly load: () => Promise<Settings>;
  /** By section of the configuration, in this order. A section that is not here does not run in this process. */
  readonly takers: Readonly<Record<string, TakeOver>>;
  /** Around the work, for the service manager. */
  readonly begins?: () => void;
  readonly ended?: () => void;
}

/** For what inotify loses. */
const rescanMs = 60_000;

export class Reloader {
  readonly #deps: ReloadDeps;
  /** What the program was started with: keys that need a restart still have these values. */
  readonly #started: Settings;
  /** The last that was taken over. */
  #current: Settings;
  /** What was said last, so that a look at unchanged files does not say it again. */
  #said = '';
  #turn: Promise<void> = Promise.resolve();

  constructor(started: Settings, deps: ReloadDeps) {
    this.#started = started;
    this.#current = started;
    this.#deps = deps;
  }

  /** Follows the files until `ctx` is given up. */
  watch(ctx: Ctx): void {
    const { file, dropInDir } = this.#started;
    const again = (): void => void this.reload(ctx, false);
    let inner = new AbortController();
    const watchDropIns = (): void => {
      inner.abort();
      inner = new AbortController();
      watchDirectory({ ...ctx, signal: AbortSignal.any([ctx.signal, inner.signal]) }, dropInDir, again, { rescanMs, only: (name) => name.endsWith('.yaml') });
    };
    const names = [basename(file), basename(dropInDir)];
    // The drop-ins' directory may come, or be another, whenever the one above it changes.
    const above = (): void => {
      watchDropIns();
      again();
    };
    watchDirectory(ctx, dirname(file), above, { rescanMs, only: (name) => names.includes(name) });
    watchDropIns();
  }

  /** One at a time. `isAsked`: somebody waits for an answer, so "no change" is said too. Never rejects. */
  reload(ctx: Ctx, isAsked: boolean): Promise<void> {
    this.#turn = this.#turn.then(() => this.#once(ctx, isAsked));
    return this.#turn;
  }

  async #once(ctx: Ctx, isAsked: boolean): Promise<void> {
    if (ctx.signal.aborted) return;
    if (isAsked) this.#said = '';
    let isNew = isAsked;
    if (isNew) this.#deps.begins?.();
    try {
      const next = await this.#deps.load();
      const changed = changedKeys(this.#deps.composition, this.#current, next, (section) => section in this.#deps.takers);
      if (!isNew && changed.live.length + changed.needRestart.length > 0) {
        isNew = true;
        this.#deps.begins?.();
      }
      await this.#takeOver(ctx, next, changed.live);
      this.#current = next;
      this.#tell(ctx, next, changed.live, isAsked || changed.needRestart.length > 0);
    } catch (error) {
      const why = explain(error);
      if (why !== this.#said) ctx.log.error({ why }, 'configuration refused: everything stays as it was');
      this.#said = why;
    } finally {
      if (isNew) this.#deps.ended?.();
    }
  }

  async #takeOver(ctx: Ctx, next: Settings, live: readonly string[]): Promise<void> {
    for (const [section, take] of Object.entries(this.#deps.takers)) {
      const own = live.filter((name) => name.startsWith(`${section}.`)).map((name) => name.slice(section.length + 1));
      if (own.length > 0) await take(ctx, next, own);
    }
  }

  #tell(ctx: Ctx, next: Settings, live: readonly string[], isAsked: boolean): void {
    const { needRestart } = changedKeys(this.#deps.composition, this.#started, next, (section) => section in this.#deps.takers);
    if (live.length > 0) ctx.log.info({ changed: live }, 'configuration taken over');
    else if (isAsked && needRestart.length === 0) ctx.log.info('configuration read: nothing changed');
    if (isAsked || live.length > 0) for (const key of needRestart) ctx.log.warn(`needs a restart: ${key}`);
    this.#said = '';
  }
}
