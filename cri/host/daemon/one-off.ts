/** Log and context of a command that ends by itself. */
import type { Logger } from 'pino';
import type { Ctx } from '../ctx.ts';
import { Fault } from '../fault.ts';
import { createLog } from '../log.ts';
import type { Flags } from './program.ts';
import type { Settings } from './settings.ts';

/** Tells only what is wrong, unless a flag says otherwise: the configured level is the daemon's. */
export const commandLog = (flags: Flags, { log }: Settings): Logger => createLog({ level: flags['log-level'] === undefined ? 'warn' : log.level });

/** SIGTERM and Ctrl-C give it up. */
export function interruptible(log: Logger): Ctx {
  const stopping = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stopping.abort(new Fault('canceled', `stopped by ${name}`)));
  return { signal: stopping.signal, log };
}
