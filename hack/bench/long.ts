/** What takes a while: a restart with many pods, the processor time of idle ones, and whether anything is left of a thousand that came and went. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { bounded, type Bench, inTurn, naming, planFor, settleMs } from './measure.ts';
import { measureMemory, processesOf } from './memory.ts';
import type { Pod } from './pod.ts';
import type { Server } from './servers.ts';

const restarts = 5;
const idleSeconds = 20;
/** Collectors of garbage tidy up for a while after work. */
const idleSettleMs = 60_000;
const ticksPerSecond = 100;

/** Pods that run, then: CPU while nobody asks, and kill -9 with a new start. */
export async function measureStanding(bench: Bench, count: number): Promise<void> {
  for (const server of bench.servers) {
    if (server.process === undefined) continue;
    await naming(server, async () => {
      const pods = await startAll(bench, server, count);
      await sleep(idleSettleMs);
      const before = cpuTicks(server);
      await sleep(idleSeconds * 1000);
      bench.results.add(`CPU of one core, ${count} idle pods, nobody asking`, '%', server.name, ((cpuTicks(server) - before) / ticksPerSecond / idleSeconds) * 100);
      for (let round = 0; round < restarts; round += 1) {
        bench.signal.throwIfAborted();
        bench.results.add(`kill -9 and start with ${count} pods, to the first right ListPodSandbox`, 'ms', server.name, await server.restart(count));
      }
      await bounded(pods, (pod) => server.life.remove(pod));
    });
    bench.say(`${server.name}: ${count} pods stood, ${restarts} restarts`);
  }
}

async function startAll(bench: Bench, server: Server, count: number): Promise<Pod[]> {
  const plans = [];
  for (let i = 0; i < count; i += 1) plans.push(await planFor(bench, server));
  return bounded(plans, (plan) => server.life.start(plan));
}

/** Of the daemon and everything that is there because of its pods, but for the workload, which sleeps. */
function cpuTicks({ process: own }: Server): number {
  if (own === undefined) return 0;
  return processesOf(own.pid, own.dir).reduce((sum, pid) => sum + ticksOf(pid), 0);
}

/** utime + stime of all threads (proc(5)). */
function ticksOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return 0;
  }
}

/** The daemon's memory and descriptors at rest, before and after `count` pods, of which at most ten are there at a time. */
export async function measureChurn(bench: Bench, count: number): Promise<void> {
  for (const server of inTurn(bench.servers, 0)) {
    const { process: own, life, name } = server;
    if (own === undefined) continue;
    await naming(server, async () => {
      // What is made once is made: code, caches, pools.
      await comeAndGo(bench, server, 50);
      await sleep(settleMs);
      bench.results.add('memory after 50 pods came and went (PSS)', 'MiB', name, measureMemory(own.pid, own.dir).daemonMiB);
      bench.results.add('open files after 50 pods', '', name, openFiles(own.pid));
      await comeAndGo(bench, server, count);
      await sleep(settleMs);
      bench.results.add(`memory after ${count} pods came and went`, 'MiB', name, measureMemory(own.pid, own.dir).daemonMiB);
      bench.results.add(`open files after ${count} pods`, '', name, openFiles(own.pid));
      if (life.sandboxes.size > 0) throw new Error(`${life.sandboxes.size} sandboxes are left`);
    });
    bench.say(`${name}: ${count} pods came and went`);
  }
}

async function comeAndGo(bench: Bench, server: Server, count: number): Promise<void> {
  await bounded(Array.from({ length: count }), async () => {
    bench.signal.throwIfAborted();
    await server.life.remove(await server.life.start(await planFor(bench, server)));
  });
}

const openFiles = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
