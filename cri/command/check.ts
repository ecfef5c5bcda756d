/** `nodelet check`: is this machine fit for it, and what to do where it is not. */
import { interruptible } from '#host/daemon/one-off.ts';
import type { Invocation } from '#host/daemon/program.ts';
import { loadSettings, type Settings } from '#host/daemon/settings.ts';
import { createLog } from '#host/log.ts';
import { checkHost } from '../check/check.ts';
import { cri } from '../half.ts';

export async function check({ program, flags }: Invocation, nodeNameOf: (settings: Settings) => string): Promise<number> {
  const settings = await loadSettings(program, flags);
  const ports = program.halves.flatMap((half) => half.ports?.(settings.of(half)) ?? []).filter(({ port }) => port !== 0);
  const request = { cri: settings.of(cri), nodeName: nodeNameOf(settings), ports };
  const { facts, findings, isFit, report } = await checkHost(interruptible(createLog({ level: 'silent' })), request);
  if (flags['json'] === true) console.log(JSON.stringify({ findings, facts }, undefined, 2));
  else console.log(report);
  return isFit ? 0 : 1;
}
