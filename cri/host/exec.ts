/**
 * Running programs: posix_spawn, a pidfd in the reactor for the end, pipes as Node streams. Nothing else of nodelet starts processes.
 *
 * A child gets only the descriptors it is given, an environment of only what it is given (PATH by default), its own session, and
 * default signal handling.
 */
import { closeSync } from 'node:fs';
import { access, constants as fsConstants } from 'node:fs/promises';
import { Socket } from 'node:net';
import { basename } from 'node:path';
import { monotonicMs } from './clock.ts';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { givenUp } from './give-up.ts';
import { pidfdOpen, pipe, reapChild, spawnProcess } from './libc.ts';
import { programEnded } from './news.ts';
import { identify, type ProcessId } from './process.ts';
import { watchFd } from './reactor.ts';

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const defaultOutputLimitBytes = 1024 * 1024;
/** How long output may still come after the child's end, from a grandchild that holds the pipe open. */
const lateOutputMs = 1000;

export interface SpawnCommand {
  /** Absolute. */
  readonly path: string;
  /** Without argv[0]. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Child's descriptor → ours (stays open here: close it after the spawn), or /dev/null. 0, 1 and 2 default to /dev/null. */
  readonly fds?: Readonly<Record<number, number | 'null'>>;
}

export interface Child {
  readonly process: ProcessId;
  /** The exit code, 128 + n when signal n ended it. Never rejects. */
  readonly exited: Promise<number>;
  /** Signals the child's whole session group; nothing once it was reaped. */
  kill(signal: NodeJS.Signals): void;
}

const living = new Set<number>();
/** True for a child of ours that `spawn` started and has not reaped yet. */
export const isSpawned = (pid: number): boolean => living.has(pid);

/** Starts a program. Throws SyscallError (ENOENT, EACCES, …) when it cannot be executed. */
export function spawn(command: SpawnCommand): Child {
  const env = command.env ?? { PATH: process.env['PATH'] ?? defaultPath };
  const pid = spawnProcess({
    path: command.path,
    argv: [basename(command.path), ...command.args],
    env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
    cwd: command.cwd,
    fds: { 0: 'null', 1: 'null', 2: 'null', ...command.fds },
  });
  // Our own unreaped child: it is there, at least as a zombie, and its pid cannot be anybody else's.
  const id = identify(pid) ?? { pid, startTicks: 0 };
  let reaped = false;
  const pidfd = watched(pid);
  living.add(pid);
  const startMs = monotonicMs();
  const exited = new Promise<number>((resolve) => {
    const unwatch = watchFd(pidfd, () => {
      const status = reapChild(pid);
      if (status === undefined) return;
      reaped = true;
      living.delete(pid);
      unwatch();
      closeSync(pidfd);
      programEnded.tell(() => ({ program: basename(command.path), seconds: (monotonicMs() - startMs) / 1000, exitCode: exitCodeOf(status) }));
      resolve(exitCodeOf(status));
    });
  });
  return {
    process: id,
    exited,
    kill: (signal) => {
      if (reaped) return;
      try {
        process.kill(-pid, signal);
      } catch (error) {
        if (!isErrno(error, 'ESRCH')) throw error;
      }
    },
  };
}

/** A child that cannot be watched, for we have no descriptor left, must not go on by itself: its end is seen as that of any stray (orphans.ts). */
function watched(pid: number): number {
  try {
    return pidfdOpen(pid);
  } catch (error) {
    process.kill(-pid, 'SIGKILL');
    throw error;
  }
}

/** wait(2) status → the shell's convention. */
export const exitCodeOf = (status: number): number => ((status & 0x7f) === 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f));

export interface Command {
  readonly path: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: string | Uint8Array;
  /** Of stdout and stderr each; what comes after it is read and dropped. */
  readonly outputLimitBytes?: number;
}

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export class CommandError extends Fault {
  readonly path: string;
  readonly args: readonly string[];
  readonly exitCode: number;
  readonly stderr: string;
  constructor(command: Command, outcome: Outcome) {
    const stderr = outcome.stderr.toString('utf8').trim();
    const said = (stderr === '' ? outcome.stdout.toString('utf8').trim() : stderr).slice(-2000);
    super('internal', `${basename(command.path)} ${command.args.join(' ')}: exit status ${outcome.exitCode}${said === '' ? '' : `: ${said}`}`);
    this.name = 'CommandError';
    this.path = command.path;
    this.args = command.args;
    this.exitCode = outcome.exitCode;
    this.stderr = stderr;
  }
}

/**
 * Runs a program to its end. When `ctx` is given up its whole process group is killed, its end awaited, and Fault timeout or canceled thrown.
 */
export async function run(ctx: Ctx, command: Command): Promise<Outcome> {
  ctx.signal.throwIfAborted();
  const input = command.stdin === undefined ? undefined : pipe();
  const out = pipe();
  const err = pipe();
  const childEnds = [out.writeFd, err.writeFd, ...(input === undefined ? [] : [input.readFd])];
  let child: Child;
  try {
    child = spawn({ ...command, fds: { 0: input?.readFd ?? 'null', 1: out.writeFd, 2: err.writeFd } });
  } catch (error) {
    for (const fd of [out.readFd, err.readFd, ...(input === undefined ? [] : [input.writeFd])]) closeSync(fd);
    throw error;
  } finally {
    for (const fd of childEnds) closeSync(fd);
  }
  const limit = command.outputLimitBytes ?? defaultOutputLimitBytes;
  const stdout = collect(out.readFd, limit);
  const stderr = collect(err.readFd, limit);
  if (input !== undefined) feed(input.writeFd, command.stdin ?? '');
  const kill = (): void => child.kill('SIGKILL');
  ctx.signal.addEventListener('abort', kill, { once: true });
  try {
    const exitCode = await child.exited;
    if (ctx.signal.aborted) {
      stdout.stop();
      stderr.stop();
      throw givenUp(ctx, `${basename(command.path)} ${command.args.join(' ')}: given up`);
    }
    return { exitCode, stdout: await stdout.end(), stderr: await stderr.end() };
  } finally {
    ctx.signal.removeEventListener('abort', kill);
  }
}

/** As `run`, but an exit status other than 0 is a CommandError with what the program said. */
export async function runChecked(ctx: Ctx, command: Command): Promise<Outcome> {
  const outcome = await run(ctx, command);
  if (outcome.exitCode !== 0) throw new CommandError(command, outcome);
  return outcome;
}

interface Collected {
  /** All output; waits for the end of the stream, but not for ever on a grandchild. */
  end(): Promise<Buffer>;
  stop(): void;
}

function collect(fd: number, limitBytes: number): Collected {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const stream = new Socket({ fd, readable: true, writable: false });
  const closed = new Promise<void>((resolve) => stream.once('close', () => resolve()));
  stream.on('error', () => stream.destroy());
  stream.on('data', (chunk: Buffer) => {
    if (bytes < limitBytes) chunks.push(chunk.subarray(0, limitBytes - bytes));
    bytes += chunk.length;
  });
  return {
    end: async () => {
      const late = setTimeout(() => stream.destroy(), lateOutputMs);
      await closed;
      clearTimeout(late);
      return Buffer.concat(chunks);
    },
    stop: () => stream.destroy(),
  };
}

function feed(fd: number, data: string | Uint8Array): void {
  const stream = new Socket({ fd, readable: false, writable: true });
  // A program that does not read its input closes the pipe: its exit status tells, not our EPIPE.
  stream.on('error', () => stream.destroy());
  stream.end(data);
}

/** The absolute path of an executable, searched in `searchPath` (the usual directories by default); a path with a slash is only checked. */
export async function findProgram(name: string, searchPath: string = `${process.env['PATH'] ?? ''}:${defaultPath}`): Promise<string | undefined> {
  const candidates = name.includes('/') ? [name] : searchPath.split(':').filter((dir) => dir.startsWith('/')).map((dir) => `${dir}/${name}`);
  for (const candidate of candidates) {
    try {
      await access(candidate, fsConstants.X_OK);
      return candidate;
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'EACCES', 'ENOTDIR')) throw error;
    }
  }
  return undefined;
}
