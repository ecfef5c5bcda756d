/**
 * Decides what becomes of an event: sent as new, counted onto an earlier one, merged with similar ones, or dropped.
 * Source: client-go tools/record/events_cache.go with the kubelet's defaults.
 */
import type { CoreEvent } from './types.ts';

const cacheEntries = 4096;
/** From this many different messages of one reason within the interval on, they become one event. */
const mergeAfter = 10;
const mergeIntervalMs = 600_000;
const mergedPrefix = '(combined from similar events): ';
/** Per object and type: so many at once, then one each five minutes. */
const burst = 25;
const refillMs = 300_000;

interface Counted {
  name: string;
  firstTimestamp: string | undefined;
  count: number;
}

export interface Outgoing {
  readonly event: CoreEvent;
  /** Undefined: create it. Otherwise this strategic merge patch of the event called `event.metadata.name`. */
  readonly patch: { readonly count: number; readonly message: string; readonly lastTimestamp: string } | undefined;
}

export class EventSeries {
  readonly #counted = new Lru<Counted>(cacheEntries);
  readonly #similar = new Lru<{ readonly messages: Set<string>; atMs: number }>(cacheEntries);
  readonly #buckets = new Lru<{ tokens: number; atMs: number }>(cacheEntries);

  /** Undefined: too many about this object, drop it. */
  next(event: CoreEvent, nowMs: number): Outgoing | undefined {
    const merged = this.#merge(event, nowMs);
    const key = merged === undefined ? eventKey(event) : similarKey(event);
    const outgoing = this.#count(merged ?? event, key);
    return this.#hasToken(event, nowMs) ? outgoing : undefined;
  }

  /** The server no longer knows the event that was counted on: the next of its kind starts anew. */
  forget(event: CoreEvent): void {
    this.#counted.delete(eventKey(event));
    this.#counted.delete(similarKey(event));
  }

  #merge(event: CoreEvent, nowMs: number): CoreEvent | undefined {
    const key = similarKey(event);
    let record = this.#similar.get(key);
    if (record === undefined || nowMs - record.atMs > mergeIntervalMs) record = { messages: new Set(), atMs: nowMs };
    record.messages.add(event.message ?? '');
    record.atMs = nowMs;
    this.#similar.set(key, record);
    if (record.messages.size < mergeAfter) return undefined;
    const [oldest] = record.messages;
    if (oldest !== undefined) record.messages.delete(oldest);
    return { ...event, message: mergedPrefix + (event.message ?? '') };
  }

  #count(event: CoreEvent, key: string): Outgoing {
    const before = this.#counted.get(key);
    if (before === undefined) {
      this.#counted.set(key, { name: event.metadata.name ?? '', firstTimestamp: event.firstTimestamp, count: 1 });
      return { event: { ...event, count: 1 }, patch: undefined };
    }
    const counted = { ...before, count: before.count + 1 };
    this.#counted.set(key, counted);
    const named: CoreEvent = { ...event, metadata: { ...event.metadata, name: counted.name }, count: counted.count };
    if (counted.firstTimestamp !== undefined) named.firstTimestamp = counted.firstTimestamp;
    return { event: named, patch: { count: counted.count, message: event.message ?? '', lastTimestamp: event.lastTimestamp ?? '' } };
  }

  #hasToken(event: CoreEvent, nowMs: number): boolean {
    const key = spamKey(event);
    const bucket = this.#buckets.get(key) ?? { tokens: burst, atMs: nowMs };
    bucket.tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.atMs) / refillMs);
    bucket.atMs = nowMs;
    const isAllowed = bucket.tokens >= 1;
    if (isAllowed) bucket.tokens--;
    this.#buckets.set(key, bucket);
    return isAllowed;
  }
}

function spamKey({ source, involvedObject: about, type }: CoreEvent): string {
  return [source?.component, source?.host, about.kind, about.namespace, about.name, about.uid, about.apiVersion, type].join('\0');
}

const similarKey = (event: CoreEvent): string => `${spamKey(event)}\0${event.reason}`;
const eventKey = (event: CoreEvent): string => `${similarKey(event)}\0${event.involvedObject.fieldPath}\0${event.message}`;

/** A Map that forgets what was not touched for longest. */
class Lru<Value> {
  readonly #entries = new Map<string, Value>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: Value): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size <= this.#limit) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
