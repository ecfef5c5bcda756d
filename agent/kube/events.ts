/** Events about pods and the node, sent the way the kubelet's recorder does: repeated ones counted, floods dropped. */
import { setTimeout as sleep } from 'node:timers/promises';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { ApiError, isNotFound } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { EventSeries } from './event-series.ts';
import type { Outgoing } from './event-series.ts';
import { eventsPath } from './resource-path.ts';
import type { CoreEvent, ObjectReference } from './types.ts';

export type EventType = 'Normal' | 'Warning';

export interface EventRecorder {
  /** Returns at once and never throws; what cannot be delivered is logged and dropped. */
  event(about: ObjectReference, type: EventType, reason: string, message: string): void;
}

const component = 'kubelet'; // what kubectl and the tests look for
const waitingAtMost = 1000;
/** Source: client-go tools/record/event.go: 12 tries, 10 s apart. */
const tries = 12;
const retryMs = 10_000;

/** One event at a time, in order, in the background until `ctx` ends. */
export class ApiEventRecorder implements EventRecorder {
  readonly #ctx: Ctx;
  readonly #client: KubeClient;
  readonly #nodeName: string;
  readonly #series = new EventSeries();
  readonly #waiting: CoreEvent[] = [];
  #isSending = false;

  constructor(ctx: Ctx, client: KubeClient, nodeName: string) {
    this.#ctx = ctx;
    this.#client = client;
    this.#nodeName = nodeName;
  }

  event(about: ObjectReference, type: EventType, reason: string, message: string): void {
    const { log, signal } = this.#ctx;
    log.debug({ about: describe(about), type, reason, message }, 'event');
    if (signal.aborted) return;
    if (this.#waiting.length >= waitingAtMost) {
      log.warn({ about: describe(about), reason }, 'event dropped: too many are waiting');
      return;
    }
    this.#waiting.push(makeEvent(about, type, reason, message, this.#nodeName, nowNs()));
    if (!this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    this.#isSending = true;
    try {
      for (let event = this.#waiting.shift(); event !== undefined && !this.#ctx.signal.aborted; event = this.#waiting.shift()) {
        const outgoing = this.#series.next(event, Number(nowNs() / 1_000_000n));
        if (outgoing !== undefined) await this.#deliver(event, outgoing);
      }
    } finally {
      this.#isSending = false;
    }
  }

  async #deliver(event: CoreEvent, outgoing: Outgoing): Promise<void> {
    for (let attempt = 1; attempt <= tries; attempt++) {
      try {
        await this.#write(outgoing);
        return;
      } catch (err) {
        if (this.#ctx.signal.aborted) return;
        if (err instanceof ApiError && err.status < 500 && err.status !== 429) {
          if (err.reason === 'AlreadyExists') return; // an earlier try got through
          this.#series.forget(event);
          this.#ctx.log.warn({ err, about: describe(event.involvedObject), reason: event.reason }, 'event refused');
          return;
        }
        if (attempt === tries) this.#ctx.log.warn({ err, about: describe(event.involvedObject), reason: event.reason }, 'event dropped');
      }
      const delayMs = attempt === 1 ? retryMs * Math.random() : retryMs;
      await sleep(delayMs, undefined, { signal: this.#ctx.signal }).catch(() => undefined); // only the abort
    }
  }

  async #write({ event, patch }: Outgoing): Promise<void> {
    const path = eventsPath(event.metadata.namespace ?? 'default');
    if (patch !== undefined) {
      try {
        await this.#client.patch(this.#ctx, `${path}/${encodeURIComponent(event.metadata.name ?? '')}`, 'strategic', patch);
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error; // events live an hour: it has expired, make it anew
      }
    }
    await this.#client.create(this.#ctx, path, event);
  }
}

/** For a node without an API server: events go to the log. */
export class LogEventRecorder implements EventRecorder {
  readonly #ctx: Ctx;

  constructor(ctx: Ctx) {
    this.#ctx = ctx;
  }

  event(about: ObjectReference, type: EventType, reason: string, message: string): void {
    this.#ctx.log[type === 'Warning' ? 'warn' : 'info']({ about: describe(about), reason, message }, 'event');
  }
}

export function makeEvent(about: ObjectReference, type: EventType, reason: string, message: string, nodeName: string, atNs: bigint): CoreEvent {
  const namespace = about.namespace ?? 'default';
  const second = `${new Date(Number(atNs / 1_000_000n)).toISOString().slice(0, 19)}Z`;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `${about.name ?? ''}.${atNs.toString(16)}`, namespace },
    involvedObject: about,
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: second,
    lastTimestamp: second,
    source: { component, host: nodeName },
    reportingComponent: component,
    reportingInstance: nodeName,
  };
}

const describe = (about: ObjectReference): string =>
  [about.kind?.toLowerCase(), about.namespace, about.name].filter(Boolean).join('/') + (about.fieldPath === undefined ? '' : ` ${about.fieldPath}`);
