/** ConfigMaps and Secrets by name, kept fresh by a watch on each for as long as somebody asks for them. */
import type { Ctx } from '#host/ctx.ts';
import { isNotFound } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { configMapsPath, secretsPath } from './resource-path.ts';
import type { ConfigMap, KubeObject, Secret } from './types.ts';
import { listWatch } from './watch.ts';

/** Where pods' ConfigMaps and Secrets come from: the API server, or files on a standalone node. Undefined = there is no such object. */
export interface ObjectSource {
  configMap(ctx: Ctx, namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(ctx: Ctx, namespace: string, name: string): Promise<Secret | undefined>;
}

export type ObjectKind = 'ConfigMap' | 'Secret';

/** Longer than the time between two passes of a pod, so that what a running pod uses stays watched. */
const unusedAfterMs = 5 * 60_000;
const sweepEveryMs = 60_000;

interface Entry {
  /** Undefined until the watch has listed; from then on `object` is the truth. */
  readonly stop: AbortController;
  isSynced: boolean;
  object: KubeObject | undefined;
  usedAtMs: number;
}

export interface ApiObjectSourceOptions {
  /** An object that was read before has changed, appeared or gone: whoever uses it may want to look again. */
  readonly onChange?: (kind: ObjectKind, namespace: string, name: string) => void;
}

/**
 * Each object is read and watched alone (`metadata.name=NAME`): the Node authorizer allows nothing wider, and only once a pod
 * of this node refers to it. Immutable objects are not watched.
 */
export class ApiObjectSource implements ObjectSource {
  readonly #ctx: Ctx;
  readonly #client: KubeClient;
  readonly #onChange: ApiObjectSourceOptions['onChange'];
  readonly #entries = new Map<string, Entry>();
  readonly #sweeper: NodeJS.Timeout;

  /** `ctx` bounds the watches: when it ends, they end. */
  constructor(ctx: Ctx, client: KubeClient, options: ApiObjectSourceOptions = {}) {
    this.#ctx = ctx;
    this.#client = client;
    this.#onChange = options.onChange;
    this.#sweeper = setInterval(() => this.dropUnused(performance.now()), sweepEveryMs).unref();
    ctx.signal.addEventListener('abort', () => clearInterval(this.#sweeper), { once: true });
  }

  configMap(ctx: Ctx, namespace: string, name: string): Promise<ConfigMap | undefined> {
    return this.#read<ConfigMap>(ctx, 'ConfigMap', namespace, name);
  }

  secret(ctx: Ctx, namespace: string, name: string): Promise<Secret | undefined> {
    return this.#read<Secret>(ctx, 'Secret', namespace, name);
  }

  /** Ends the watches on what nobody has asked for in the last minutes. */
  dropUnused(nowMs: number): void {
    for (const [key, entry] of this.#entries) {
      if (nowMs - entry.usedAtMs < unusedAfterMs) continue;
      entry.stop.abort();
      this.#entries.delete(key);
    }
  }

  async #read<T extends KubeObject>(ctx: Ctx, kind: ObjectKind, namespace: string, name: string): Promise<T | undefined> {
    const key = `${kind}/${namespace}/${name}`;
    const entry = this.#entries.get(key);
    if (entry?.isSynced) {
      entry.usedAtMs = performance.now();
      return entry.object as T | undefined;
    }
    const object = await this.#get<T>(ctx, kind, namespace, name);
    const isImmutable = (object as { immutable?: boolean } | undefined)?.immutable === true;
    if (!this.#entries.has(key) && !this.#ctx.signal.aborted) {
      const made: Entry = { stop: new AbortController(), isSynced: isImmutable, object, usedAtMs: performance.now() };
      this.#entries.set(key, made);
      if (!isImmutable) void this.#follow(made, kind, namespace, name);
    }
    return object;
  }

  async #get<T>(ctx: Ctx, kind: ObjectKind, namespace: string, name: string): Promise<T | undefined> {
    try {
      return await this.#client.get<T>(ctx, `${collection(kind, namespace)}/${encodeURIComponent(name)}`);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async #follow(entry: Entry, kind: ObjectKind, namespace: string, name: string): Promise<void> {
    const ctx: Ctx = { ...this.#ctx, signal: AbortSignal.any([this.#ctx.signal, entry.stop.signal]) };
    const set = (object: KubeObject | undefined): void => {
      const isNews = entry.object?.metadata?.resourceVersion !== object?.metadata?.resourceVersion;
      entry.object = object;
      entry.isSynced = true;
      if (isNews) this.#onChange?.(kind, namespace, name);
    };
    await listWatch(ctx, this.#client, { path: collection(kind, namespace), fieldSelector: `metadata.name=${name}` }, {
      replace: ([object]) => set(object),
      upsert: set,
      remove: () => set(undefined),
    });
  }
}

const collection = (kind: ObjectKind, namespace: string): string => (kind === 'ConfigMap' ? configMapsPath(namespace) : secretsPath(namespace));
