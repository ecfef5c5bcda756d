/** `nodelet check`: is this machine fit for it, and what to do where it is not. */
import { Fault } from '#host/fault.ts';
import { createLog } from '#host/log.ts';
import type { Flags } from './flags.ts';
import { loadSettings } from './settings.ts';

export async function check(flags: Flags): Promise<number> {
  const { cri, agent } = await loadSettings(flags);
  const { checkHost } = await import('../cri/check/check.ts');
  const stopping = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stopping.abort(new Fault('canceled', `stopped by ${name}`)));
  const ports = [{ port: agent.port, what: 'the agent' }, { port: agent.healthzPort, what: 'its /healthz' }].filter(({ port }) => port !== 0);
  const ctx = { signal: stopping.signal, log: createLog({ level: 'silent' }) };
  const { facts, findings, isFit, report } = await checkHost(ctx, { cri, nodeName: agent.nodeName, ports });
  if (flags['json'] === true) console.log(JSON.stringify({ findings, facts }, undefined, 2));
  else console.log(report);
  return isFit ? 0 : 1;
}
