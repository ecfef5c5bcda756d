/** Requests to the API server: raw JSON in and out, one shared connection, refusals as ApiError. */
import type { Ctx } from '#host/ctx.ts';
import type { KubeList } from './types.ts';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Content types of PATCH. `apply` needs `fieldManager` in the query. */
export type PatchKind = 'strategic' | 'merge' | 'json' | 'apply';

export interface DeleteOptions {
  /** 0 = remove at once (what a node does with a pod that has ended). */
  readonly gracePeriodSeconds?: number;
  /** Delete only this very object, not one of the same name made since; otherwise ApiError `Conflict`. */
  readonly uid?: string;
}

export interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly object: T;
}

/**
 * The API server. Paths come from resource-path.ts. Every call throws ApiError for a refusal and Fault
 * ('unavailable', 'timeout', 'canceled', 'unauthorized') when there was no answer; none of them retries.
 */
export interface KubeClient {
  get<T>(ctx: Ctx, path: string, query?: Query): Promise<T>;
  list<T>(ctx: Ctx, path: string, query?: Query): Promise<KubeList<T>>;
  create<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T>;
  replace<T>(ctx: Ctx, path: string, body: unknown, query?: Query): Promise<T>;
  patch<T>(ctx: Ctx, path: string, kind: PatchKind, body: unknown, query?: Query): Promise<T>;
  delete(ctx: Ctx, path: string, options?: DeleteOptions): Promise<void>;
  /** Ends when the server closes the stream; throws ApiError for an ERROR event. Bookmarks come only if the query asks for them. */
  watch<T>(ctx: Ctx, path: string, query?: Query): AsyncIterable<WatchEvent<T>>;
  /** Closes the connection; calls under way fail. */
  close(): void;
}
