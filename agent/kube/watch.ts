/**
 * A collection of the API server kept in step: list, then watch from there, again and again.
 *
 * A watch that ends (the server closes each after some minutes) is taken up where it stopped, bookmarks keep that place
 * recent; only when the server has forgotten the place (410) or refuses it, everything is listed again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { explain, isFault } from '#host/fault.ts';
import { ApiError, isExpired } from './api-error.ts';
import type { KubeClient, Query } from './client.ts';
import type { KubeList, KubeObject } from './types.ts';

export interface WatchTarget {
  readonly path: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

/** Called in order, never two at once. An object deleted and recreated under its name is a `remove` and then an `upsert`, even if that was missed. */
export interface WatchSink<T extends KubeObject> {
  /** The whole collection as listed; whatever is not in it (by uid) is gone. Called first, and again after every gap. */
  replace(items: T[]): void;
  upsert(object: T): void;
  /** With the last known state of the object. */
  remove(object: T): void;
  /** A list or watch failed; it goes on by itself. For those who wait for the first `replace`. */
  failed?(error: unknown): void;
}

const pageSize = 500;
const firstDelayMs = 250;
const longestDelayMs = 10_000;
/** A watch shorter than this counts as failed: a server that closes at once must not be asked in a loop. */
const shortWatchMs = 1_000;

/** Runs until the context ends, then returns; does not throw for anything the API server, the network or the sink does. */
export async function listWatch<T extends KubeObject>(ctx: Ctx, client: KubeClient, target: WatchTarget, sink: WatchSink<T>): Promise<void> {
  const known = new Known<T>();
  const guarded = guard(ctx, target, sink);
  let version: string | undefined;
  let failures = 0;
  let lastProblem = '';
  while (!ctx.signal.aborted) {
    const startedMs = performance.now();
    try {
      if (version === undefined) {
        const list = await listAll<T>(ctx, client, target);
        version = list.metadata?.resourceVersion ?? '';
        known.replace(list.items);
        guarded.replace(list.items);
        if (lastProblem !== '') ctx.log.info({ path: target.path }, 'list and watch works again');
        lastProblem = '';
      }
      for await (const event of client.watch<T>(ctx, target.path, watchQuery(target, version))) {
        version = event.object.metadata?.resourceVersion ?? version;
        failures = 0;
        if (event.type === 'BOOKMARK') continue;
        if (event.type === 'DELETED') {
          if (known.remove(event.object)) guarded.remove(event.object);
          continue;
        }
        const replaced = known.upsert(event.object);
        if (replaced !== undefined) guarded.remove(replaced);
        guarded.upsert(event.object);
      }
      if (performance.now() - startedMs >= shortWatchMs) failures = 0;
      else failures++;
    } catch (error) {
      if (ctx.signal.aborted) return;
      failures++;
      if (mustListAgain(error)) version = undefined;
      if (!isExpired(error)) {
        const problem = explain(error);
        if (problem !== lastProblem) ctx.log.warn({ path: target.path, err: error }, 'list and watch failed, trying again');
        lastProblem = problem;
        guarded.failed(error);
      }
    }
    if (failures > 0) await sleep(delayMs(failures), undefined, { signal: ctx.signal }).catch(() => undefined); // only the abort: the loop sees it
  }
}

/** Doubling, and spread out so that the nodes of a cluster do not come back in step. */
const delayMs = (failures: number): number => Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures - 1, 16)) * (0.75 + Math.random() / 2);

/** A lost connection or a busy server leaves our place valid; any other refusal puts it in doubt. */
function mustListAgain(error: unknown): boolean {
  if (!(error instanceof ApiError)) return !isFault(error);
  return error.status !== 429 && error.status !== 500 && error.status !== 502 && error.status !== 503;
}

async function listAll<T>(ctx: Ctx, client: KubeClient, target: WatchTarget): Promise<KubeList<T>> {
  const items: T[] = [];
  let next: string | undefined;
  for (;;) {
    const query: Query = { ...selectors(target), limit: pageSize, continue: next };
    const page = await client.list<T>(ctx, target.path, query);
    items.push(...(page.items ?? []));
    next = page.metadata?.continue;
    if (!next) return { ...page, items };
  }
}

function watchQuery(target: WatchTarget, resourceVersion: string): Query {
  const timeoutSeconds = Math.floor(300 * (1 + Math.random()));
  return { ...selectors(target), resourceVersion, allowWatchBookmarks: true, timeoutSeconds };
}

const selectors = ({ fieldSelector, labelSelector }: WatchTarget): Query => ({ fieldSelector, labelSelector });

/** What the sink has been told, by uid and by name. */
class Known<T extends KubeObject> {
  readonly #byName = new Map<string, T>();

  replace(items: readonly T[]): void {
    this.#byName.clear();
    for (const item of items) this.#byName.set(nameOf(item), item);
  }

  /** The object of the same name but another uid that this one has replaced. */
  upsert(object: T): T | undefined {
    const before = this.#byName.get(nameOf(object));
    this.#byName.set(nameOf(object), object);
    return before !== undefined && before.metadata?.uid !== object.metadata?.uid ? before : undefined;
  }

  /** False if the sink never heard of it, or has already been told. */
  remove(object: T): boolean {
    const before = this.#byName.get(nameOf(object));
    if (before === undefined || before.metadata?.uid !== object.metadata?.uid) return false;
    return this.#byName.delete(nameOf(object));
  }
}

const nameOf = (object: KubeObject): string => `${object.metadata?.namespace ?? ''}/${object.metadata?.name ?? ''}`;

/** An exception in a sink is a bug there; it must not stop the news for everybody else. */
function guard<T extends KubeObject>(ctx: Ctx, target: WatchTarget, sink: WatchSink<T>): Required<WatchSink<T>> {
  const safely = <Arguments extends unknown[]>(call: ((...args: Arguments) => void) | undefined) => (...args: Arguments): void => {
    try {
      call?.(...args);
    } catch (err) {
      ctx.log.error({ err, path: target.path }, 'the receiver of a watch failed');
    }
  };
  return {
    replace: safely((items: T[]) => sink.replace(items)),
    upsert: safely((object: T) => sink.upsert(object)),
    remove: safely((object: T) => sink.remove(object)),
    failed: safely((error: unknown) => sink.failed?.(error)),
  };
}
