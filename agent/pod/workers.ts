/**
 * One worker per pod UID: one pass at a time, wake-ups while it runs make one more pass. Different pods do not wait for each other.
 * A static pod that changed has a new UID; it waits until the one before it, of the same name, is gone.
 */
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { isStaticPod, podKey, podUid } from '../kube/pod-facts.ts';
import { podReference } from '../kube/references.ts';
import type { Pod } from '../kube/types.ts';
import { podGraceSeconds } from './grace.ts';
import { newMemory, type PodDeps, type PodMemory } from './pod-deps.ts';
import { retryMs } from './apply.ts';
import { cleanPod, syncPod, terminatePod, type PassResult } from './sync.ts';
import { initialWork, isForgettable, nextWork, type PodEvent, type PodWork } from './worker-state.ts';

interface Worker {
  readonly uid: string;
  pod: Pod;
  work: PodWork;
  readonly memory: PodMemory;
  busy: boolean;
  dirty: boolean;
  /** Gives up the pass that runs. */
  abort: AbortController;
  timer: NodeJS.Timeout | undefined;
  lastFailure: string | undefined;
}

export interface WorkersOptions {
  readonly deps: PodDeps;
  /** A pass at least this often, for what no event tells. */
  readonly resyncMs: number;
  /** A pod is gone for good. */
  readonly forgotten?: () => void;
}

export class PodWorkers {
  readonly #ctx: Ctx;
  readonly #deps: PodDeps;
  readonly #resyncMs: number;
  readonly #forgotten: () => void;
  readonly #workers = new Map<string, Worker>();
  readonly #idle = new Set<() => void>();

  /** `ctx` is the agent's: when it ends, passes are given up and containers stay as they are. */
  constructor(ctx: Ctx, { deps, resyncMs, forgotten = () => undefined }: WorkersOptions) {
    this.#forgotten = forgotten;
    this.#ctx = ctx;
    this.#deps = deps;
    this.#resyncMs = resyncMs;
    ctx.signal.addEventListener('abort', () => {
      for (const worker of this.#workers.values()) clearTimeout(worker.timer);
    }, { once: true });
  }

  has(uid: string): boolean {
    return this.#workers.has(uid);
  }

  /** Pods whose work is not over: what they hold on this node is theirs. */
  uids(): Set<string> {
    return new Set(this.#workers.keys());
  }

  /** Pods that have or may get running containers. */
  active(): Pod[] {
    return [...this.#workers.values()].filter(({ work }) => work.name === 'syncing' || work.name === 'terminating').map(({ pod }) => pod);
  }

  pods(): Pod[] {
    return [...this.#workers.values()].map(({ pod }) => pod);
  }

  stateOf(uid: string): PodWork['name'] | undefined {
    return this.#workers.get(uid)?.work.name;
  }

  /** The pod as its source has it now: new, changed, or marked for deletion. */
  update(pod: Pod): void {
    const worker = this.#workerFor(pod);
    worker.pod = pod;
    if (pod.metadata?.deletionTimestamp !== undefined) this.#event(worker, { type: 'deleted', graceSeconds: podGraceSeconds(pod) });
    this.wake(worker.uid);
  }

  /** Only its status or bookkeeping changed. */
  refresh(pod: Pod): void {
    const worker = this.#workers.get(podUid(pod));
    if (worker !== undefined) worker.pod = pod;
  }

  /** Gone from its source: it still ends gracefully, with nobody to report to. */
  remove(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    this.#event(worker, { type: 'removed', graceSeconds: podGraceSeconds(worker.pod) });
    this.wake(uid);
  }

  /** Something in the runtime that no source knows: it goes, quickly. */
  adopt(pod: Pod, graceSeconds: number): void {
    const worker = this.#workerFor(pod);
    this.#event(worker, { type: 'removed', graceSeconds });
    this.wake(worker.uid);
  }

  /** Ends a pod with a status of its own (eviction, shutdown). */
  end(uid: string, failed: { reason: string; message: string }, graceSeconds: number): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    worker.memory.failed ??= failed;
    this.#event(worker, { type: 'ended', graceSeconds });
    this.wake(uid);
  }

  /** A container's liveness or startup probe gave up. */
  unhealthy(uid: string, containerId: string, why: string): void {
    this.#workers.get(uid)?.memory.unhealthy.set(containerId, why);
    this.wake(uid);
  }

  /** Unknown UIDs are ignored. Many wake-ups during a pass make one more pass. */
  wake(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined || this.#ctx.signal.aborted) return;
    worker.dirty = true;
    if (!worker.busy) void this.#drain(worker);
  }

  wakeAll(): void {
    for (const uid of this.#workers.keys()) this.wake(uid);
  }

  /** Resolves when no pass runs. */
  async quiet(): Promise<void> {
    while ([...this.#workers.values()].some(({ busy }) => busy)) await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  #workerFor(pod: Pod): Worker {
    const uid = podUid(pod);
    const found = this.#workers.get(uid);
    if (found !== undefined) return found;
    const worker: Worker = {
      uid, pod, work: initialWork, memory: newMemory(), busy: false, dirty: false, abort: new AbortController(), timer: undefined, lastFailure: undefined,
    };
    this.#workers.set(uid, worker);
    return worker;
  }

  /** A pod that must end does not wait for its image to arrive: the pass that runs is given up. */
  #event(worker: Worker, event: PodEvent): void {
    const before = worker.work;
    worker.work = nextWork(before, event);
    const shorter = before.name === 'terminating' && worker.work.name === 'terminating' && worker.work.graceSeconds < before.graceSeconds;
    if (before.name === 'syncing' && worker.work.name === 'terminating') worker.abort.abort(new DOMException('the pod ends', 'AbortError'));
    if (shorter) worker.abort.abort(new DOMException('a shorter grace period', 'AbortError'));
  }

  async #drain(worker: Worker): Promise<void> {
    worker.busy = true;
    try {
      while (worker.dirty && !this.#ctx.signal.aborted) {
        worker.dirty = false;
        clearTimeout(worker.timer);
        worker.timer = undefined;
        if (this.#waitsForNamesake(worker)) return;
        await this.#pass(worker);
      }
    } finally {
      worker.busy = false;
      for (const resolve of this.#idle) resolve();
      this.#idle.clear();
    }
  }

  #waitsForNamesake({ uid, pod, work }: Worker): boolean {
    if (work.name !== 'syncing' || !isStaticPod(pod)) return false;
    for (const other of this.#workers.values()) {
      if (other.uid === uid) return false; // the order of arrival: those after this one wait for it
      if (podKey(other.pod) === podKey(pod)) return true;
    }
    return false;
  }

  async #pass(worker: Worker): Promise<void> {
    worker.abort = new AbortController();
    const log = this.#ctx.log.child({ pod: podKey(worker.pod), uid: worker.uid });
    const ctx: Ctx = { log: this.#ctx.log, signal: AbortSignal.any([this.#ctx.signal, worker.abort.signal]) };
    try {
      const result = await this.#run(ctx, worker);
      worker.lastFailure = undefined;
      this.#react(worker, result);
    } catch (error) {
      if (this.#ctx.signal.aborted) return;
      if (worker.abort.signal.aborted) {
        worker.dirty = true;
        return;
      }
      const failure = explain(error);
      if (failure !== worker.lastFailure) log.warn({ err: error, state: worker.work.name }, 'pass failed, trying again later');
      worker.lastFailure = failure;
      if (worker.work.name === 'terminated') this.#deps.events.event(podReference(worker.pod), 'Warning', 'FailedSync', `error cleaning up: ${failure}`);
      this.#comeBack(worker, worker.work.name === 'syncing' ? retryMs : 1000);
    }
  }

  #run(ctx: Ctx, worker: Worker): Promise<PassResult> {
    const { pod, memory, work } = worker;
    switch (work.name) {
      case 'syncing':
        return syncPod(ctx, this.#deps, pod, memory);
      case 'terminating':
        return terminatePod(ctx, this.#deps, pod, memory, work);
      case 'terminated':
        return cleanPod(ctx, this.#deps, pod, memory, work);
      case 'finished':
        return Promise.resolve({ then: 'cleaned' });
      default:
        return work satisfies never;
    }
  }

  #react(worker: Worker, result: PassResult): void {
    if (result.then === 'again') {
      if (result.inMs === 0) worker.dirty = true;
      else this.#comeBack(worker, Math.min(result.inMs ?? Number.POSITIVE_INFINITY, this.#resyncMs * (1 + Math.random() / 2)));
      return;
    }
    const event: PodEvent = result.then === 'ended' ? { type: 'ended', graceSeconds: podGraceSeconds(worker.pod) } : { type: result.then };
    const before = worker.work;
    worker.work = nextWork(before, event);
    if (worker.work.name !== 'finished') {
      worker.dirty = true;
      return;
    }
    if (worker.work.purged) this.#deps.status.finish(worker.pod);
    if (isForgettable(worker.work)) this.#forget(worker);
  }

  #forget(worker: Worker): void {
    clearTimeout(worker.timer);
    worker.dirty = false;
    this.#workers.delete(worker.uid);
    this.#deps.status.forget(worker.uid);
    this.#forgotten();
    for (const other of this.#workers.values()) if (podKey(other.pod) === podKey(worker.pod)) this.wake(other.uid);
  }

  #comeBack(worker: Worker, inMs: number): void {
    clearTimeout(worker.timer);
    if (worker.dirty || this.#ctx.signal.aborted) return;
    worker.timer = setTimeout(() => this.wake(worker.uid), Math.min(inMs, 2 ** 31 - 1));
  }
}
