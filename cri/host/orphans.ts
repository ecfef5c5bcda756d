/**
 * Descendants whose parent has ended: they become ours to wait for, so that a program which starts something and goes (`runc exec --detach`)
 * leaves us its exit code.
 *
 * The price is that every other orphan becomes ours too (monitors, daemons of plugins): those nobody waits for are reaped in `reapStrays`.
 */
import { closeSync, readFileSync } from 'node:fs';
import { isErrno } from './errno.ts';
import { exitCodeOf } from './exec.ts';
import { becomeSubreaper, pidfdOpen, reapChild } from './libc.ts';
import { monotonicMs } from './clock.ts';
import { parseStat } from './process.ts';
import { watchFd } from './reactor.ts';

/** Longer than exec.ts or an adopted process needs to be reaped by the one who waits for it. */
const strayAfterMs = 5000;
const waitedFor = new Set<number>();
const zombieSinceMs = new Map<number, number>();
let adopting = false;

/** Must have been called before the programs are started whose orphans are wanted. May be called twice. */
export function adoptOrphans(): void {
  if (!adopting) becomeSubreaper();
  adopting = true;
}

/**
 * The exit code of an orphan that is (or is about to become) our child, 128 + n for signal n; undefined when it was never ours.
 * Reaps it. Call at once: nobody else must.
 */
export async function adoptedExit(pid: number): Promise<number | undefined> {
  let pidfd: number;
  try {
    pidfd = pidfdOpen(pid);
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined;
    throw error;
  }
  waitedFor.add(pid);
  const ended = Promise.withResolvers<void>();
  const unwatch = watchFd(pidfd, () => ended.resolve());
  try {
    await ended.promise;
    return reap(pid);
  } finally {
    unwatch();
    closeSync(pidfd);
    waitedFor.delete(pid);
    reapStrays();
  }
}

/** Reaps an orphan that has ended, for those who saw its end by other means; undefined when it is not our child or still runs. */
export function reapAdopted(pid: number): number | undefined {
  return adopting ? reap(pid) : undefined;
}

function reap(pid: number): number | undefined {
  try {
    const status = reapChild(pid);
    return status === undefined ? undefined : exitCodeOf(status);
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return undefined;
    throw error;
  }
}

/** Reaps children that ended some time ago and that nobody waits for. Costs one read of /proc when there are none; never blocks. */
export function reapStrays(): void {
  if (!adopting) return;
  const nowMs = monotonicMs();
  const zombies = ownChildren().filter((pid) => !waitedFor.has(pid) && isZombie(pid));
  for (const pid of zombieSinceMs.keys()) if (!zombies.includes(pid)) zombieSinceMs.delete(pid);
  for (const pid of zombies) {
    const sinceMs = zombieSinceMs.get(pid) ?? nowMs;
    zombieSinceMs.set(pid, sinceMs);
    if (nowMs - sinceMs < strayAfterMs) continue;
    reap(pid);
    zombieSinceMs.delete(pid);
  }
}

/** Orphans go to the main thread, as posix_spawn's children from there do. Empty where the kernel does not list children. */
function ownChildren(): number[] {
  try {
    return readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ').map(Number).filter((pid) => pid > 0);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

function isZombie(pid: number): boolean {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1')).state === 'Z';
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return false;
    throw error;
  }
}
