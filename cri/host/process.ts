/** A process is its pid and its start time, never a bare pid: a recycled pid is somebody else. */
import { closeSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { readdir } from 'node:fs/promises';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { unlessGivenUp } from './give-up.ts';
import { pidfdOpen, pidfdSendSignal } from './libc.ts';
import { watchFd } from './reactor.ts';

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/PID/stat. */
  readonly startTicks: number;
}

export interface ProcessStat {
  readonly state: string;
  readonly parentPid: number;
  readonly startTicks: number;
}

/** Parses /proc/PID/stat (proc(5)); the command in parentheses may itself contain spaces and parentheses. */
export function parseStat(text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', parentPid: Number(fields[1]), startTicks: Number(fields[19]) };
}

function readStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** The process with this pid now, zombies included; undefined when there is none. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTicks: stat.startTicks };
}

/** True while the process has not ended (a zombie has ended). */
export function isAlive(id: ProcessId): boolean {
  const stat = readStat(id.pid);
  return stat !== undefined && stat.startTicks === id.startTicks && stat.state !== 'Z' && stat.state !== 'X';
}

/** A pidfd of exactly this process, or undefined when it has ended and was reaped. The caller closes it. */
function openProcess(id: ProcessId): number | undefined {
  let fd: number;
  try {
    fd = pidfdOpen(id.pid);
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined;
    throw error;
  }
  // Checked after the open: the descriptor now holds on to whichever process it is.
  if (readStat(id.pid)?.startTicks === id.startTicks) return fd;
  closeSync(fd);
  return undefined;
}

/** Sends a signal (name or number; 1 to 64) to exactly this process; false when it is gone. */
export function signalProcess(id: ProcessId, signal: NodeJS.Signals | number): boolean {
  const fd = openProcess(id);
  if (fd === undefined) return false;
  try {
    pidfdSendSignal(fd, typeof signal === 'number' ? signal : constants.signals[signal]);
    return true;
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false;
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Resolves when the process has ended, at once when it is gone already; rejects with the signal's reason when given up. Need not be our child. */
export async function whenGone(ctx: Ctx, id: ProcessId): Promise<void> {
  ctx.signal.throwIfAborted();
  const fd = openProcess(id);
  if (fd === undefined) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const unwatch = watchFd(fd, () => resolve());
  try {
    await unlessGivenUp(ctx, promise);
  } finally {
    unwatch();
    closeSync(fd);
  }
}

/** The pids of all processes of the host, as /proc lists them. */
export async function allPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}
