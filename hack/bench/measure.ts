/** The measurements. Servers take turns within every round, so that a busy moment of the machine hits all of them. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ListContainersResponse } from '#cri-api';
import { measureMemory } from './memory.ts';
import type { Row, Unit } from './numbers.ts';
import { call, type Clock, type Pod, type PodPlan } from './pod.ts';
import type { Server } from './servers.ts';

export class Results {
  readonly #rows = new Map<string, { unit: Unit; samples: Record<string, number[]> }>();

  add(name: string, unit: Unit, server: string, value: number): void {
    const row = this.#rows.get(name) ?? { unit, samples: {} };
    this.#rows.set(name, row);
    (row.samples[server] ??= []).push(value);
  }

  /** Measures how long `work` takes. */
  async time<T>(name: string, server: string, work: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    const result = await work();
    this.add(name, 'ms', server, performance.now() - begin);
    return result;
  }

  rows(): Row[] {
    return [...this.#rows].map(([name, { unit, samples }]) => ({ name, unit, samples }));
  }
}

export interface Bench {
  readonly servers: readonly Server[];
  readonly results: Results;
  /** Ctrl-C: the loops end at the next turn. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
  readonly image: string;
  readonly hostNetwork: boolean;
  readonly seccomp: PodPlan['seccomp'];
}

let names = 0;
export async function planFor(bench: Bench, server: Server): Promise<PodPlan> {
  names += 1;
  const name = `bench-${process.pid}-${names}`;
  const logDirectory = path.join(server.logDirectory, name);
  // The kubelet makes both folders before it asks.
  await mkdir(path.join(logDirectory, 'main'), { recursive: true });
  return { name, image: bench.image, cgroupParent: server.cgroup, logDirectory, hostNetwork: bench.hostNetwork, seccomp: bench.seccomp };
}

/** The servers, beginning with another one each round. */
export const inTurn = (servers: readonly Server[], round: number): Server[] => servers.map((_, i) => servers[(i + round) % servers.length]).filter((server) => server !== undefined);

/** One pod after the other, every call on its own. The first round warms up and is not counted. */
export async function measureLife(bench: Bench, rounds: number): Promise<void> {
  for (let round = 0; round <= rounds; round += 1) {
    for (const server of inTurn(bench.servers, round)) {
      bench.signal.throwIfAborted();
      await naming(server, () => oneLife(bench, server, round === 0 ? new Results() : bench.results));
    }
    if (round % 10 === 0) bench.say(`calls: ${round} of ${rounds} rounds`);
  }
}

/** With several servers at work, an error must say whose it is. */
export async function naming<T>(server: Server, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Error(`${server.name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

async function oneLife(bench: Bench, server: Server, results: Results): Promise<void> {
  const { life, name } = server;
  const plan = await planFor(bench, server);
  const clock: Clock = (what, work) => results.time(what, name, work);
  const pod = await results.time('pod to running', name, () => life.start(plan, clock));
  await life.assertRunning(pod, clock);
  await life.execTrue(pod, clock);
  await life.stopContainer(pod, clock);
  await results.time('StopPodSandbox + RemovePodSandbox', name, () => life.remove(pod));
}

const maxAtOnce = 10;

/** Runs `work` for all items, at most ten at a time. Waits for all that began before it fails. */
export async function bounded<Item, Result>(items: readonly Item[], work: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const at = next;
      next += 1;
      const item = items[at];
      if (item !== undefined) results[at] = await work(item);
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(maxAtOnce, items.length) }, lane));
  for (const each of lanes) if (each.status === 'rejected') throw each.reason as Error;
  return results;
}

export interface ManyOptions {
  readonly pods: number;
  readonly repeats: number;
  readonly memory: boolean;
  readonly lists: boolean;
}

/** Many pods, ten at a time; memory and lists while they run. */
export async function measureMany(bench: Bench, options: ManyOptions): Promise<void> {
  for (let round = 0; round < options.repeats; round += 1) {
    for (const server of inTurn(bench.servers, round)) {
      bench.signal.throwIfAborted();
      await naming(server, () => manyOn(bench, server, options));
    }
    bench.say(`${options.pods} pods: ${round + 1} of ${options.repeats} rounds`);
  }
}

async function manyOn(bench: Bench, server: Server, { pods: count, memory, lists }: ManyOptions): Promise<void> {
  const { life, name } = server;
  const before = server.process === undefined ? undefined : measureMemory(server.process.pid, server.process.dir);
  const plans: PodPlan[] = [];
  for (let i = 0; i < count; i += 1) plans.push(await planFor(bench, server));
  const pods = await bench.results.time(`${count} pods, ${maxAtOnce} at a time, all running`, name, () => bounded(plans, (plan) => life.start(plan)));
  for (const pod of pods) await life.assertRunning(pod);
  if (memory && before !== undefined) recordMemory(bench, server, { count, before });
  if (lists) await measureLists(bench, server, count);
  await bench.results.time(`${count} pods, ${maxAtOnce} at a time, all removed`, name, () => bounded(pods, (pod: Pod) => life.remove(pod)));
}

function recordMemory({ results }: Bench, server: Server, { count, before }: { count: number; before: { daemonMiB: number; podsMiB: number } }): void {
  if (server.process === undefined) return;
  const now = measureMemory(server.process.pid, server.process.dir);
  results.add(`memory per pod, of ${count} (PSS)`, 'MiB', server.name, (now.podsMiB - before.podsMiB) / count);
  results.add(`the same with the daemon's growth, of ${count}`, 'MiB', server.name, (now.podsMiB - before.podsMiB + now.daemonMiB - before.daemonMiB) / count);
  results.add(`memory of the daemon with ${count} pods (PSS)`, 'MiB', server.name, now.daemonMiB);
  results.add(`processes per pod, of ${count}`, '', server.name, now.podProcesses / count);
}

const listRepeats = 20;

async function measureLists({ results }: Bench, { client, name }: Server, count: number): Promise<void> {
  for (let i = 0; i < listRepeats; i += 1) {
    await results.time(`ListPodSandbox of ${count}`, name, () => call((done) => client.runtime.listPodSandbox({ filter: undefined }, done)));
    await results.time(`ListContainers of ${count}`, name, () => call<ListContainersResponse>((done) => client.runtime.listContainers({ filter: undefined }, done)));
  }
  for (let i = 0; i < listRepeats / 4; i += 1) await results.time(`ListContainerStats of ${count}`, name, () => call((done) => client.runtime.listContainerStats({ filter: undefined }, done)));
}

/** After work, until a server is at rest. */
export const settleMs = 15_000;

/** Memory of the daemon alone. */
export async function measureIdle({ servers, results }: Bench): Promise<void> {
  await sleep(settleMs);
  for (const server of servers) {
    if (server.process !== undefined) results.add('memory of the daemon, at rest (PSS)', 'MiB', server.name, measureMemory(server.process.pid, server.process.dir).daemonMiB);
  }
}

export interface PullOptions {
  readonly pulls: readonly { readonly reference: string; readonly note: string }[];
  readonly repeats: number;
  /** Each starts a server that has never seen an image. */
  readonly fresh: readonly (() => Promise<Server>)[];
}

/** Each pull into a server made for it: a removed image may leave layers and blobs behind for a while, and a second pull would find them. */
export async function measurePull(bench: Pick<Bench, 'results' | 'signal' | 'say'>, options: PullOptions): Promise<void> {
  for (let round = 0; round < options.repeats; round += 1) {
    for (const { reference, note } of options.pulls) {
      for (let i = 0; i < options.fresh.length; i += 1) {
        bench.signal.throwIfAborted();
        const server = await options.fresh[(i + round) % options.fresh.length]?.();
        if (server === undefined) continue;
        try {
          await naming(server, () => bench.results.time(`pull ${reference}${note}`, server.name, () => pull(server, reference)));
          const delayMs = await server.longestDelayMs();
          if (delayMs !== undefined) bench.results.add('event loop late at most, during a pull', 'ms', server.name, delayMs);
        } finally {
          await server.close();
        }
      }
    }
    bench.say(`pull: ${round + 1} of ${options.repeats} rounds`);
  }
}

export async function pull(server: Server, reference: string): Promise<void> {
  const image = { image: reference, annotations: {}, userSpecifiedImage: reference, runtimeHandler: '', imageRef: '' };
  await call((done) => server.client.image.pullImage({ image, auth: undefined, sandboxConfig: undefined }, done));
}
