/** Keeps the latest status of every pod, sends it to the API server when it differs, and deletes the pod when all is done. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { isMirrorPod, isTerminalPhase, podKey, podUid } from '../kube/pod-facts.ts';
import type { Pod, PodStatus } from '../kube/types.ts';

/** Absent on a standalone node: statuses are then only remembered. */
export interface StatusApi {
  /** Undefined: there is no such pod any more (or another one by its name). */
  patchStatus(ctx: Ctx, pod: Pod, body: object): Promise<Pod | undefined>;
  /** With grace 0 and the UID as precondition; success when it is gone already. */
  remove(ctx: Ctx, pod: Pod): Promise<void>;
}

export interface StatusWriterOptions {
  /** Hears of every status that differs from the one before. */
  readonly changed?: (pod: Pod, status: PodStatus) => void;
  /** What an earlier run of the agent said, where no API server remembers it. */
  readonly remembered?: ReadonlyMap<string, PodStatus>;
}

interface Entry {
  pod: Pod;
  status: PodStatus;
  /** What the API server has, as far as we know. */
  sent: PodStatus | undefined;
  finished: boolean;
  deleted: boolean;
}

const retryMs = { first: 500, most: 10_000 };

/**
 * The body of a strategic merge patch. Lists that merge by key (conditions) may keep what others wrote;
 * addresses are replaced as a whole.
 */
export function statusPatch(pod: Pod, status: PodStatus): object {
  const replaced = (list: object[] | undefined): object[] | undefined => (list === undefined || list.length === 0 ? undefined : [...list, { $patch: 'replace' }]);
  return {
    metadata: { uid: podUid(pod) },
    status: {
      ...status,
      reason: status.reason ?? null,
      message: status.message ?? null,
      // A merged condition keeps what is not said of it: the reason of its last status.
      ...(status.conditions !== undefined && { conditions: status.conditions.map((condition) => ({ reason: null, message: null, ...condition })) }),
      ...(status.podIPs !== undefined && { podIPs: replaced(status.podIPs) }),
      ...(status.hostIPs !== undefined && { hostIPs: replaced(status.hostIPs) }),
    },
  };
}

export class StatusWriter {
  readonly #api: StatusApi | undefined;
  readonly #ctx: Ctx;
  readonly #entries = new Map<string, Entry>();
  readonly #busy = new Set<string>();
  readonly #options: StatusWriterOptions;

  constructor(ctx: Ctx, api: StatusApi | undefined, options: StatusWriterOptions = {}) {
    this.#ctx = ctx;
    this.#api = api;
    this.#options = options;
  }

  get(uid: string): PodStatus | undefined {
    return this.#entries.get(uid)?.status ?? this.#options.remembered?.get(uid);
  }

  /** Returns at once; the newest status wins. */
  set(pod: Pod, status: PodStatus): void {
    const uid = podUid(pod);
    const entry = this.#entries.get(uid) ?? { pod, status: {}, sent: pod.status, finished: false, deleted: false };
    const differs = !isDeepStrictEqual(entry.status, status);
    entry.pod = pod;
    entry.status = status;
    this.#entries.set(uid, entry);
    if (!differs) return;
    this.#options.changed?.(pod, status);
    this.#wake(uid);
  }

  /** The pod changed in the API server: somebody may have overwritten what we said. */
  seen(pod: Pod): void {
    const entry = this.#entries.get(podUid(pod));
    if (entry === undefined) return;
    entry.pod = pod;
    if (entry.sent !== undefined && pod.status !== undefined && differsFrom(pod.status, entry.status)) entry.sent = pod.status;
    this.#wake(podUid(pod));
  }

  /** Nothing of the pod is left on this node; it may be deleted from the API server. */
  finish(pod: Pod): void {
    const entry = this.#entries.get(podUid(pod));
    if (entry === undefined) return;
    entry.pod = pod;
    entry.finished = true;
    this.#wake(podUid(pod));
  }

  forget(uid: string): void {
    this.#entries.delete(uid);
  }

  #wake(uid: string): void {
    if (this.#api === undefined || this.#busy.has(uid)) return;
    this.#busy.add(uid);
    void this.#drain(this.#api, uid).finally(() => this.#busy.delete(uid));
  }

  async #drain(api: StatusApi, uid: string): Promise<void> {
    let delayMs: number = retryMs.first;
    while (!this.#ctx.signal.aborted) {
      const entry = this.#entries.get(uid);
      if (entry === undefined || !hasWork(entry)) return;
      try {
        await this.#send(api, entry);
        delayMs = retryMs.first;
      } catch (error) {
        this.#ctx.log.warn({ pod: podKey(entry.pod), uid, why: explain(error) }, 'pod status not delivered, trying again');
        await sleep(delayMs, undefined, { signal: this.#ctx.signal }).catch(() => undefined); // aborted: the loop ends
        delayMs = Math.min(delayMs * 2, retryMs.most);
      }
    }
  }

  async #send(api: StatusApi, entry: Entry): Promise<void> {
    const { pod, status } = entry;
    if (entry.sent === undefined || differsFrom(entry.sent, status)) {
      const updated = await api.patchStatus(this.#ctx, pod, statusPatch(pod, status));
      entry.sent = status;
      if (updated === undefined) entry.deleted = true;
    }
    if (mayDelete(entry)) {
      await api.remove(this.#ctx, entry.pod);
      entry.deleted = true;
    }
  }
}

const mayDelete = ({ pod, status, finished, deleted }: Entry): boolean =>
  finished && !deleted && pod.metadata?.deletionTimestamp !== undefined && isTerminalPhase(status.phase) && !isMirrorPod(pod);

const hasWork = (entry: Entry): boolean => !entry.deleted && (entry.sent === undefined || differsFrom(entry.sent, entry.status) || mayDelete(entry));

/** Whether `known` lacks anything that `wanted` says; what others wrote, and what the API server fills in, does not count. */
export function differsFrom(known: PodStatus, wanted: PodStatus): boolean {
  const { conditions = [], startTime, ...rest } = wanted;
  if ((known.reason ?? '') !== (wanted.reason ?? '') || (known.message ?? '') !== (wanted.message ?? '')) return true;
  if (startTime !== undefined && known.startTime === undefined) return true;
  return !covers(known, rest) || conditions.some((condition) => {
    const there = known.conditions?.find(({ type }) => type === condition.type);
    return !covers(there, condition) || (there?.reason ?? '') !== (condition.reason ?? '') || (there?.message ?? '') !== (condition.message ?? '');
  });
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

function covers(known: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true;
  if (Array.isArray(wanted)) {
    const list: unknown[] = Array.isArray(known) ? known : [];
    return list.length === wanted.length && wanted.every((item: unknown, index) => covers(list[index], item));
  }
  if (!isObject(wanted)) return known === wanted;
  const have = isObject(known) ? known : {};
  return (known !== undefined || Object.keys(wanted).length === 0) && Object.entries(wanted).every(([key, value]) => covers(have[key], value));
}
