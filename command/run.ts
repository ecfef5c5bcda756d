/** `nodelet run`, `cri` and `agent`: the halves from start to stop. */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { createLog, PartLogs } from '#host/log.ts';
import { releaseMemory } from '#host/memory.ts';
import { ServiceManager } from '#host/service-manager.ts';
import type { RunningAgent } from '../agent/daemon.ts';
import { idleReason } from '../agent/config.ts';
import type { RunningCri } from '../cri/daemon.ts';
import { lockAgent } from './agent-lock.ts';
import type { Flags } from './flags.ts';
import { Reloader, type TakeOver } from './reload.ts';
import { loadSettings, type Settings } from './settings.ts';

type Half = 'cri' | 'agent';

/** The start is over by then, with the first questions of a kubelet. */
const settledMs = 5000;

export async function runDaemon(flags: Flags, halves: readonly Half[], version: string): Promise<number> {
  const load = (): Promise<Settings> => loadSettings(flags, halves.length === 2);
  const settings = await load();
  const idle = halves.includes('agent') ? idleReason(settings.agent) : undefined;
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
  const running = await startHalves((part) => ({ ...ctx, log: logs.of(part) }), settings, halves);
  const { cri, agent } = running;
  const takers: Record<string, TakeOver> = {
    ...(cri !== undefined && { cri: (own: Ctx, next: Settings, changed: readonly string[]) => cri.reload(own, next.cri, changed) }),
    ...(agent !== undefined && { agent: async (_own: Ctx, next: Settings) => agent.reload(next.agent) }),
    // Last, for it cannot fail.
    log: async (_own, next) => logs.setLevels(next.log.level, next.log.parts),
  };
  const reloader = new Reloader(settings, { load, takers, begins: () => manager.reloading(), ended: () => manager.ready() });
  onHangUp = () => void reloader.reload(ctx, true);
  reloader.watch(ctx);
  manager.ready();
  manager.watch(ctx, async (own) => [await cri?.look(own), agent?.look()].filter((text) => text !== undefined).join('; '));
  setTimeout(() => void releaseMemory(), settledMs).unref();
  logs.root.info({ version, pid: process.pid }, `nodelet ${halves.join(' and ')} up`);
  const reason = await stopped;
  logs.root.info(`${reason}: stopping; containers keep running`);
  await running.stop();
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

interface Running {
  readonly cri: RunningCri | undefined;
  readonly agent: RunningAgent | undefined;
  stop(): Promise<void>;
}

async function startHalves(ctxOf: (half: Half) => Ctx, settings: Settings, halves: readonly Half[]): Promise<Running> {
  const undo = new AsyncDisposableStack();
  try {
    let cri: RunningCri | undefined;
    let agent: RunningAgent | undefined;
    if (halves.includes('cri')) {
      cri = await (await import('../cri/daemon.ts')).startCri(ctxOf('cri'), settings.cri);
      undo.defer(cri.stop);
    }
    if (halves.includes('agent')) {
      undo.use(await lockAgent(settings.agent.root));
      agent = await (await import('../agent/daemon.ts')).startAgent(ctxOf('agent'), settings.agent);
      undo.defer(agent.stop);
    }
    return { cri, agent, stop: () => undo.disposeAsync() };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}
