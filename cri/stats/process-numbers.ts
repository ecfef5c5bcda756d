/** What the processes of a container hold open: /proc/PID/fd and /proc/PID/limits (proc(5)). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isErrno } from '#host/errno.ts';
import { turn } from '#host/turns.ts';

export interface OpenDescriptors {
  readonly descriptors: number;
  readonly sockets: number;
}

/** Links that are looked at between two turns of others. */
const linksPerTurn = 256;

/** Processes that end meanwhile count for nothing. */
export async function openDescriptors(pids: readonly number[]): Promise<OpenDescriptors> {
  let descriptors = 0;
  let sockets = 0;
  for (const pid of pids) {
    await turn();
    const names = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
    descriptors += names.length;
    for (const [index, name] of names.entries()) {
      if (index % linksPerTurn === linksPerTurn - 1) await turn();
      if (unlessGone(() => readlinkSync(`/proc/${pid}/fd/${name}`))?.startsWith('socket:') === true) sockets += 1;
    }
  }
  return { descriptors, sockets };
}

/** The soft limit on open files; undefined when the process is gone or has no limit. */
export async function openFilesLimit(pid: number): Promise<number | undefined> {
  await turn();
  const limit = /^Max open files +(\d+)/m.exec(unlessGone(() => readFileSync(`/proc/${pid}/limits`, 'latin1')) ?? '')?.[1];
  return limit === undefined ? undefined : Number(limit);
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
