/** A collection of the API server kept in step: list, then watch, again and again. */
import type { Ctx } from '#host/ctx.ts';
import type { KubeClient } from './client.ts';
import type { KubeObject } from './types.ts';

export interface WatchTarget {
  readonly path: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

/** Called in order, never two at once. An object deleted and recreated under its name is a `remove` and then an `upsert`, even if that was missed. */
export interface WatchSink<T extends KubeObject> {
  /** The whole collection as listed; whatever is not in it is gone. Called first, and again after every gap. */
  replace(items: T[]): void;
  upsert(object: T): void;
  /** With the last known state of the object. */
  remove(object: T): void;
}

/** Runs until the context ends; never throws for anything the API server or the network does. */
export type ListWatch = <T extends KubeObject>(ctx: Ctx, client: KubeClient, target: WatchTarget, sink: WatchSink<T>) => Promise<void>;
