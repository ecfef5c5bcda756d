/** Halves of nodelet as a daemon, from start to stop. */
import { flushCompileCache } from 'node:module';
import type { Ctx } from '../ctx.ts';
import { Fault } from '../fault.ts';
import { createLog, PartLogs } from '../log.ts';
import { releaseMemory } from '../memory.ts';
import { ServiceManager } from '../service-manager.ts';
import type { Half, RunningHalf } from './half.ts';
import type { Invocation } from './program.ts';
import { Reloader, type TakeOver } from './reload.ts';
import { lockRoot } from './root-lock.ts';
import { loadSettings, type Settings } from './settings.ts';

/** The start is over by then, with the first questions of a kubelet. */
const settledMs = 5000;

/**
 * Until a signal ends it. Fault invalid for a configuration that is wrong or leaves a half without anything to do; precondition while another
 * nodelet runs on the same directories.
 */
export async function runDaemon({ program, flags }: Invocation, halves: readonly Half[]): Promise<number> {
  const load = (): Promise<Settings> => loadSettings(program, flags, halves);
  const settings = await load();
  const idle = halves.map((half) => half.idleReason?.(settings.of(half))).find((reason) => reason !== undefined);
  if (idle !== undefined) throw new Fault('invalid', `${settings.file}: ${idle}`);
  const logs = new PartLogs(createLog(settings.log));
  logs.setLevels(settings.log.level, settings.log.parts);
  const manager = new ServiceManager(process.env, process.pid);
  const stopping = new AbortController();
  const ctx: Ctx = { signal: stopping.signal, log: logs.root };
  const stopped = stopSignal(stopping, manager);
  process.on('uncaughtException', (error) => {
    logs.root.fatal({ err: error }, 'a defect in nodelet: ends now, containers keep running, start it again');
    process.exit(1);
  });
  // A SIGHUP that comes before there is something to reload must not end us.
  let onHangUp = (): void => undefined;
  process.on('SIGHUP', () => onHangUp());
  const { running, stop } = await startHalves((half) => ({ ...ctx, log: logs.of(half.name) }), settings, halves);
  const takerOf = ([half, started]: readonly [Half, RunningHalf]): TakeOver => (own, next, changed) => started.reload(own, next.of(half), changed);
  const takers: Record<string, TakeOver> = {
    ...Object.fromEntries(running.map((each) => [each[0].name, takerOf(each)])),
    // Last, for it cannot fail.
    log: async (_own, next) => logs.setLevels(next.log.level, next.log.parts),
  };
  const reloader = new Reloader(settings, { composition: program, load, takers, begins: () => manager.reloading(), ended: () => manager.ready() });
  onHangUp = () => void reloader.reload(ctx, true);
  reloader.watch(ctx);
  manager.ready();
  manager.watch(ctx, async (own) => (await Promise.all(running.map(([, started]) => started.look(own)))).join('; '));
  setTimeout(() => {
    // Only a process that ends well would keep what was compiled for the next start.
    flushCompileCache();
    void releaseMemory();
  }, settledMs).unref();
  logs.root.info({ version: program.version, pid: process.pid }, `nodelet ${halves.map(({ name }) => name).join(' and ')} up`);
  const reason = await stopped;
  logs.root.info(`${reason}: stopping; containers keep running`);
  await stop();
  return 0;
}

/** The name of the signal that ends us, when it comes. */
function stopSignal(stopping: AbortController, manager: ServiceManager): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      // Asked twice: somebody is in a hurry, and a kill -9 is survived anyway.
      if (stopping.signal.aborted) process.exit(1);
      manager.stopping();
      stopping.abort(new Fault('canceled', `nodelet is stopping (${name})`));
      resolve(name);
    });
  }
  return promise;
}

interface Started {
  readonly running: readonly (readonly [Half, RunningHalf])[];
  stop(): Promise<void>;
}

/** One after the other, each under its lock. When one cannot start, those before it are stopped. */
async function startHalves(ctxOf: (half: Half) => Ctx, settings: Settings, halves: readonly Half[]): Promise<Started> {
  const undo = new AsyncDisposableStack();
  const running: [Half, RunningHalf][] = [];
  try {
    for (const half of halves) {
      const config = settings.of(half);
      undo.use(await lockRoot(half.lockFile(config)));
      const started = await half.start(ctxOf(half), config);
      undo.defer(() => started.stop());
      running.push([half, started]);
    }
    return { running, stop: () => undo.disposeAsync() };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}
