/**
 * Descendants whose parent has ended: they become our children, so that a program which starts something and goes (`runc exec --detach`) leaves
 * us its exit code.
 *
 * The price is that every other orphan becomes ours too (monitors, what a failed exec leaves, daemons of plugins), and must be reaped: a zombie in a
 * container's pid namespace keeps that namespace, and with it the container, from ending. So whenever a child ends, those that nobody waits for
 * are looked for, and reaped when they are still there a moment later.
 */
import { closeSync, readFileSync } from 'node:fs';
import { isErrno } from './errno.ts';
import { exitCodeOf, isSpawned } from './exec.ts';
import { becomeSubreaper, pidfdOpen, reapChild } from './libc.ts';
import { parseStat } from './process.ts';
import { watchFd } from './reactor.ts';

/** Longer than the one who waits for a child (Node's own children among them) needs to reap it after SIGCHLD. */
const strayAfterMs = 200;

class Orphans {
  readonly #waitedFor = new Set<number>();
  #strays = new Set<number>();
  #expected = 0;
  #isLookPlanned = false;

  constructor() {
    becomeSubreaper();
    process.on('SIGCHLD', () => this.#lookSoon());
  }

  expect(): Disposable {
    this.#expected++;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#expected--;
        this.#lookSoon();
      },
    };
  }

  async exit(pid: number): Promise<number | undefined> {
    let pidfd: number;
    try {
      pidfd = pidfdOpen(pid);
    } catch (error) {
      if (isErrno(error, 'ESRCH')) return undefined;
      throw error;
    }
    this.#waitedFor.add(pid);
    const ended = Promise.withResolvers<number | undefined>();
    const unwatch = watchFd(pidfd, () => {
      const end = reap(pid);
      if (end !== undefined) ended.resolve(end.exitCode);
    });
    try {
      return await ended.promise;
    } finally {
      unwatch();
      closeSync(pidfd);
      this.#waitedFor.delete(pid);
    }
  }

  /** While an orphan is expected nobody knows yet which one it is: looking is put off until its pid is known. */
  #lookSoon(): void {
    if (this.#isLookPlanned) return;
    this.#isLookPlanned = true;
    const look = (): void => {
      this.#isLookPlanned = false;
      if (this.#expected === 0) this.#look();
    };
    // What is ready to be reaped by others is reaped before the immediate runs, even if the loop was busy until now.
    setTimeout(() => setImmediate(look), strayAfterMs).unref();
  }

  /** A stray is seen in two looks. */
  #look(): void {
    const zombies = ownChildren().filter((pid) => !this.#waitedFor.has(pid) && !isSpawned(pid) && isZombie(pid));
    const [old, young] = [zombies.filter((pid) => this.#strays.has(pid)), zombies.filter((pid) => !this.#strays.has(pid))];
    for (const pid of old) reap(pid);
    this.#strays = new Set(young);
    if (young.length > 0) this.#lookSoon();
  }
}

let orphans: Orphans | undefined;

/** Must have been called before the programs are started whose orphans are wanted. May be called twice. */
export function adoptOrphans(): void {
  orphans ??= new Orphans();
}

/** To be held from before the start of a program that leaves an orphan until `adoptedExit` was called for it (or it failed). */
export function expectOrphan(): Disposable {
  orphans ??= new Orphans();
  return orphans.expect();
}

/** The exit code of an orphan, 128 + n for signal n; undefined when it was not ours. Reaps it. */
export function adoptedExit(pid: number): Promise<number | undefined> {
  orphans ??= new Orphans();
  return orphans.exit(pid);
}

/** Reaps an orphan that has ended, for those who saw its end by other means; nothing when it is not our child or still runs. */
export function reapAdopted(pid: number): void {
  if (orphans !== undefined) reap(pid);
}

/** Undefined while it runs; without an exit code when it is not our child. */
function reap(pid: number): { readonly exitCode: number | undefined } | undefined {
  try {
    const status = reapChild(pid);
    return status === undefined ? undefined : { exitCode: exitCodeOf(status) };
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return { exitCode: undefined };
    throw error;
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
