/**
 * Programs that were started on behalf of something (a sandbox, a container) carry its id in their environment, so that those which outlive the
 * daemon that started them, or hang, can be found and ended before what they work on is taken away.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { allPids, identify, type ProcessId, signalProcess, whenGone } from './process.ts';

/** To be put into the environment of a program, from where its own children inherit it. */
export const programMark = (id: string): Readonly<Record<string, string>> => ({ NODELET_FOR: id });

/** Ours, and what CNI plugins get by their own specification. */
const marksOf = (id: string): readonly string[] => [`NODELET_FOR=${id}`, `CNI_CONTAINERID=${id}`];

/** Kills them, also those that are started meanwhile, and waits until they have ended. None is success. */
export async function endMarkedPrograms(ctx: Ctx, id: string): Promise<void> {
  for (;;) {
    const found = await markedPrograms(id);
    if (found.length === 0) return;
    for (const program of found) signalProcess(program, 'SIGKILL');
    await Promise.all(found.map((program) => whenGone(ctx, program)));
    await sleep(0);
  }
}

async function markedPrograms(id: string): Promise<ProcessId[]> {
  const marks = marksOf(id);
  const found = await Promise.all((await allPids()).map(async (pid) => ((await environmentOf(pid)).some((entry) => marks.includes(entry)) ? identify(pid) : undefined)));
  return found.filter((program) => program !== undefined);
}

/** Empty for a process that has ended. */
async function environmentOf(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/environ`, 'latin1')).split('\0');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return [];
    throw error;
  }
}
