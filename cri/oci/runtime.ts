/**
 * An OCI runtime (crun, runc) as a program: its command line and what it answers. The argument lists are pure functions of the command line
 * contract in `runc.8.md` and `crun.1.md`, which agree in all that is used here.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { QuickMoves } from '#host/cgroup-moves.ts';
import { type Ctx, detached } from '#host/ctx.ts';
import { CommandError, run, runChecked, spawn, type Command } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { programMark } from '#host/marked-programs.ts';
import type { CgroupDriver } from './cgroup-path.ts';
import type { RuntimeEntry } from './cgroup-view.ts';
import type { RuntimeFeatures } from './features.ts';

export interface OciRuntime {
  /** Of the runtime handler. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  /** Where the runtime keeps its state; a directory per container. */
  readonly rootDir: string;
  readonly cgroupDriver: CgroupDriver;
  /** As `--version` says: `crun 1.8.1`. */
  readonly version: string;
  readonly features: RuntimeFeatures;
  /** A privileged container gets no devices of the host but those that it names. */
  readonly privilegedWithoutHostDevices: boolean;
  /** How it is started where it works. */
  readonly entry: RuntimeEntry;
  /** Held while it places a process. */
  readonly moves: QuickMoves;
  /** Longest that one command may take before it is killed; it is not given up with its caller. */
  readonly timeoutMs: number;
}

/** A runtime needs no more, and what is in our environment is nobody's business. */
export const runtimeEnv: Readonly<Record<string, string>> = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/**
 * Options before the command. Its log goes to a file, or its warnings would land in the container's log: everything on its stderr does.
 * The error itself is on stderr all the same.
 */
export const globalArgs = (runtime: Pick<OciRuntime, 'rootDir' | 'cgroupDriver'>, logFile = '/dev/null'): string[] => [
  '--root',
  runtime.rootDir,
  '--log',
  logFile,
  ...(runtime.cgroupDriver === 'systemd' ? ['--systemd-cgroup'] : []),
];

/** The program to execute and its arguments, for the runtime itself or what leads to it. `create` also for `run`. */
export function commandLine(runtime: Pick<OciRuntime, 'path' | 'entry'>, verb: keyof RuntimeEntry, args: readonly string[]): { path: string; args: string[] } {
  const [path = runtime.path, ...rest] = [...runtime.entry[verb], runtime.path, ...args];
  return { path, args: rest };
}

const command = (runtime: OciRuntime, args: readonly string[]): Command => ({ ...commandLine(runtime, 'other', [...globalArgs(runtime), ...args]), env: runtimeEnv });

/** Lets the created container's process run its program. Throws Fault 'internal' with what the runtime said. */
export async function startContainer(ctx: Ctx, runtime: OciRuntime, id: string): Promise<void> {
  try {
    await runChecked(detached(ctx, runtime.timeoutMs), command(runtime, ['start', id]));
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    throw new Fault('internal', `${runtime.name} start: ${cause.stderr}`, cause);
  }
}

/**
 * `create` or `run --detach`: the container's process keeps the descriptors that the runtime got, so it gets none of ours, and what the runtime
 * has to say is read from `logFile`. Throws Fault 'internal' with it.
 */
export async function makeDetached(
  ctx: Ctx,
  runtime: OciRuntime,
  order: { verb: 'create' | 'run'; id: string; bundleDir: string; pidFile: string; logFile: string },
): Promise<void> {
  const { verb, id, bundleDir, pidFile, logFile } = order;
  using _ = runtime.moves.hold();
  const verbArgs = [verb, ...(verb === 'run' ? ['--detach'] : []), '--bundle', bundleDir, '--pid-file', pidFile, id];
  const child = spawn({ ...commandLine(runtime, 'create', [...globalArgs(runtime, logFile), ...verbArgs]), env: { ...runtimeEnv, ...programMark(id) } });
  const limit = detached(ctx, runtime.timeoutMs);
  const kill = (): void => child.kill('SIGKILL');
  limit.signal.addEventListener('abort', kill, { once: true });
  const exitCode = await child.exited;
  limit.signal.removeEventListener('abort', kill);
  if (limit.signal.aborted) throw new Fault('timeout', `${runtime.name} ${verb}: not done after ${runtime.timeoutMs / 1000} s`, limit.signal.reason);
  if (exitCode !== 0) throw new Fault('internal', `${runtime.name} ${verb}: ${await lastError(logFile, exitCode)}`);
}

/** `checkpoint`: CRIU's images of a running container into `imageDir`, its log into `workDir`; the container runs on. Throws Fault 'internal' with what the runtime said. */
export async function dumpContainer(ctx: Ctx, runtime: OciRuntime, order: { id: string; imageDir: string; workDir: string }): Promise<void> {
  const { id, imageDir, workDir } = order;
  try {
    await runChecked(ctx, command(runtime, ['checkpoint', '--leave-running', '--image-path', imageDir, '--work-path', workDir, id]));
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    throw new Fault('internal', `${runtime.name} checkpoint: ${cause.stderr}`, cause);
  }
}

/** What a runtime wrote into its log last. runc's is logfmt (`level=error msg="…"`), crun's plain text. */
export async function lastError(logFile: string, exitCode: number): Promise<string> {
  const line = (await readFile(logFile, 'utf8').catch(() => '')).trim().split('\n').at(-1) ?? '';
  const message = /\bmsg=("(?:[^"\\]|\\.)*")/.exec(line)?.[1];
  if (message !== undefined) return JSON.parse(message) as string;
  return line === '' ? `exit status ${exitCode}` : line;
}

/**
 * Makes the runtime forget a container, killing it if need be. Unknown is success. `runc delete --force` sleeps 100 ms before it looks, so
 * it is asked kindly first.
 */
export async function deleteContainer(ctx: Ctx, runtime: OciRuntime, id: string): Promise<void> {
  const limited = detached(ctx, runtime.timeoutMs);
  const kind = await run(limited, command(runtime, ['delete', id]));
  if (kind.exitCode === 0 || isUnknown(kind.stderr)) return;
  const forced = await run(limited, command(runtime, ['delete', '--force', id]));
  if (forced.exitCode !== 0 && !isUnknown(forced.stderr)) throw new Fault('internal', `${runtime.name} delete: ${forced.stderr.toString('utf8').trim()}`);
}

/**
 * Takes the runtime's notes of a container away, whose processes and group are gone or going: with cgroupfs a directory and nothing else, and no
 * program has to work for that; with systemd it also has a unit to end. The handler may not be configured any more. Unknown is success.
 */
export async function forgetContainer(
  ctx: Ctx,
  from: { readonly runtimes: readonly OciRuntime[]; ociRootDir(handler: string): string },
  container: { readonly id: string; readonly handler: string },
): Promise<void> {
  const runtime = from.runtimes.find(({ name }) => name === container.handler);
  if (runtime?.cgroupDriver === 'systemd') await deleteContainer(ctx, runtime, container.id);
  await rm(join(from.ociRootDir(container.handler), container.id), { recursive: true, force: true });
}

/** True when its program was let go: the answer of `state` is `running`. False for one that is only created, has ended, or is unknown. */
export async function isStarted(ctx: Ctx, runtime: OciRuntime, id: string): Promise<boolean> {
  const { exitCode, stdout } = await run(detached(ctx, runtime.timeoutMs), command(runtime, ['state', id]));
  return exitCode === 0 && /"status": *"running"/.test(stdout.toString('utf8'));
}

const isUnknown = (stderr: Buffer): boolean => /does not exist|No such file or directory/.test(stderr.toString('utf8'));

/** Where the runtime keeps what it knows of this container. */
export const stateDir = (runtime: Pick<OciRuntime, 'rootDir'>, id: string): string => join(runtime.rootDir, id);

export interface ExecArgs {
  readonly id: string;
  /** File with the OCI process object. */
  readonly processFile: string;
  readonly pidFile: string;
  /** Gets the reason when the process cannot be started: with a terminal crun prints it there. */
  readonly logFile: string;
  /** Path of a unix socket that gets the terminal's master; set if and only if the process has a terminal. */
  readonly consoleSocket?: string | undefined;
}

/** `exec --detach`: the runtime ends as soon as the process runs, with the process's pid in `pidFile`. */
export const execArgs = (runtime: OciRuntime, exec: ExecArgs): string[] => [
  ...globalArgs(runtime, exec.logFile),
  'exec',
  '--detach',
  '--pid-file',
  exec.pidFile,
  '--process',
  exec.processFile,
  ...(exec.consoleSocket === undefined ? [] : ['--tty', '--console-socket', exec.consoleSocket]),
  exec.id,
];
