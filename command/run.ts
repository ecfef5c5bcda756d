/** `nodelet run`, `cri` and `agent`: the halves from start to stop. */
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { createLog, PartLogs } from '#host/log.ts';
import { idleReason } from '../agent/config.ts';
import { lockAgent } from './agent-lock.ts';
import type { Flags } from './flags.ts';
import { loadSettings, type Settings } from './settings.ts';

type Half = 'cri' | 'agent';
interface Stoppable {
  stop(): Promise<void>;
}

export async function runDaemon(flags: Flags, halves: readonly Half[], version: string): Promise<number> {
  const settings = await loadSettings(flags, halves.length === 2);
  const idle = halves.includes('agent') ? idleReason(settings.agent) : undefined;
  if (idle !== undefined) throw new Fault('invalid', `${settings.file}: ${idle}`);
  const stopping = new AbortController();
  const logs = new PartLogs(createLog(settings.log));
  logs.setLevels(settings.log.level, settings.log.parts);
  const { promise: stopped, resolve: stop } = Promise.withResolvers<string>();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      // Asked twice: somebody is in a hurry, and a kill -9 is survived anyway.
      if (stopping.signal.aborted) process.exit(1);
      stopping.abort(new Fault('canceled', `nodelet is stopping (${name})`));
      stop(name);
    });
  }
  process.on('uncaughtException', (error) => {
    logs.root.fatal({ err: error }, 'a defect in nodelet: ends now, containers keep running, start it again');
    process.exit(1);
  });
  const running = await startHalves((part) => ({ signal: stopping.signal, log: logs.of(part) }), settings, halves);
  logs.root.info({ version, pid: process.pid }, `nodelet ${halves.join(' and ')} up`);
  const reason = await stopped;
  logs.root.info(`${reason}: stopping; containers keep running`);
  for (const half of running) await half.stop();
  return 0;
}

async function startHalves(ctxOf: (half: Half) => Ctx, settings: Settings, halves: readonly Half[]): Promise<Stoppable[]> {
  const running: Stoppable[] = [];
  try {
    if (halves.includes('cri')) running.unshift(await (await import('../cri/daemon.ts')).startCri(ctxOf('cri'), settings.cri));
    if (halves.includes('agent')) {
      const lock = await lockAgent(settings.agent.root);
      running.unshift({ stop: async () => lock[Symbol.dispose]() });
      running.unshift(await (await import('../agent/daemon.ts')).startAgent(ctxOf('agent'), settings.agent));
    }
    return running;
  } catch (error) {
    for (const half of running) await half.stop();
    throw error;
  }
}
