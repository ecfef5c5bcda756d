/** A few worker threads that take jobs in turn. They are started when there is work and end when there has been none for a while: each costs memory. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { releaseMemory } from '#host/memory.ts';
import type { Job, JobAnswer, JobMessage, JobResult } from './unpack-job.ts';

const idleMs = 5000;
/** More would wait for the disk. */
const maxThreads = 16;

/** Beside this file, as TypeScript or bundled. */
const workerUrl = (): URL => new URL(import.meta.url.endsWith('.ts') ? './unpack-worker.ts' : './unpack-worker.js', import.meta.url);

interface Waiting {
  readonly job: Job;
  readonly stop: SharedArrayBuffer;
  readonly settle: { resolve(result: JobResult): void; reject(error: Error): void };
}
interface Thread {
  readonly worker: Worker;
  current: { readonly id: number; readonly waiting: Waiting } | undefined;
  idle: NodeJS.Timeout | undefined;
}

export class WorkerPool {
  readonly #limit: number;
  readonly #threads = new Set<Thread>();
  #queue: Waiting[] = [];
  #lastId = 0;

  constructor(limit = Math.min(maxThreads, Math.max(2, availableParallelism()))) {
    this.#limit = limit;
  }

  /** The worker stops between two chunks when `ctx` ends; only then this throws, so that nobody writes to the directory any more. */
  async run(ctx: Ctx, job: Job): Promise<JobResult> {
    ctx.signal.throwIfAborted();
    const stop = new SharedArrayBuffer(4);
    const { promise, resolve, reject } = Promise.withResolvers<JobResult>();
    const waiting: Waiting = { job, stop, settle: { resolve, reject } };
    const giveUp = (): void => {
      Atomics.store(new Int32Array(stop), 0, 1);
      if (!this.#queue.includes(waiting)) return;
      this.#queue = this.#queue.filter((other) => other !== waiting);
      reject(ctx.signal.reason as Error);
    };
    ctx.signal.addEventListener('abort', giveUp, { once: true });
    this.#queue.push(waiting);
    this.#dispatch();
    try {
      return await promise;
    } catch (error) {
      ctx.signal.throwIfAborted();
      throw error;
    } finally {
      ctx.signal.removeEventListener('abort', giveUp);
    }
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = [...this.#threads].find(({ current }) => current === undefined) ?? (this.#threads.size < this.#limit ? this.#start() : undefined);
      const waiting = thread === undefined ? undefined : this.#queue.shift();
      if (thread === undefined || waiting === undefined) return;
      clearTimeout(thread.idle);
      this.#lastId += 1;
      thread.current = { id: this.#lastId, waiting };
      thread.worker.ref();
      thread.worker.postMessage({ id: this.#lastId, job: waiting.job, stop: waiting.stop } satisfies JobMessage);
    }
  }

  #start(): Thread {
    const worker = new Worker(workerUrl(), { name: 'unpack', trackUnmanagedFds: false });
    const thread: Thread = { worker, current: undefined, idle: undefined };
    this.#threads.add(thread);
    worker.on('message', (answer: JobAnswer) => this.#answered(thread, answer));
    worker.on('error', (error: unknown) => this.#lost(thread, error));
    worker.on('exit', () => this.#lost(thread, new Error('the thread has ended')));
    return thread;
  }

  #answered(thread: Thread, answer: JobAnswer): void {
    const { current } = thread;
    if (current === undefined || current.id !== answer.id) return;
    thread.current = undefined;
    if ('result' in answer) current.waiting.settle.resolve(answer.result);
    else current.waiting.settle.reject(new Fault(answer.failure.kind, answer.failure.message));
    thread.worker.unref();
    thread.idle = setTimeout(() => this.#retire(thread), idleMs).unref();
    this.#dispatch();
  }

  #retire(thread: Thread): void {
    if (thread.current !== undefined) return;
    this.#threads.delete(thread);
    void thread.worker.terminate().then(() => (this.#threads.size === 0 ? releaseMemory() : undefined));
  }

  #lost(thread: Thread, error: unknown): void {
    this.#threads.delete(thread);
    clearTimeout(thread.idle);
    thread.current?.waiting.settle.reject(new Fault('internal', 'the thread that unpacked the layer failed', error));
    thread.current = undefined;
    if (this.#queue.length > 0) this.#dispatch();
  }

  /** Ends all threads; what still runs fails. */
  async close(): Promise<void> {
    for (const { settle } of this.#queue) settle.reject(new Fault('canceled', 'unpacking was given up: the program ends'));
    this.#queue = [];
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }
}
