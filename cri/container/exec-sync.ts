/**
 * ExecSync: a command in a running container, its output and exit code. A time-out kills the command with all its descendants before it is
 * reported; a descendant that keeps stdout open is not waited for.
 */
import { readFileSync } from 'node:fs';
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, timedOut, withTimeout } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { identify, isAlive, type ProcessId, signalProcess } from '#host/process.ts';
import { ExecFailed, type ExecProcess, OutputPipe, startExec } from '../oci/exec.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';

export interface ExecSyncDeps {
  readonly containers: Pick<ContainerStore, 'get'>;
  readonly runtimeOf: (handler: string) => OciRuntime;
  readonly cgroups: Pick<Cgroups, 'processes'>;
  /** For short-lived files; on a tmpfs, exists. */
  readonly scratchDir: string;
}

export interface ExecSyncRequest {
  readonly id: string;
  readonly command: readonly string[];
  /** 0: as long as it takes. */
  readonly timeoutSeconds: number;
}

export interface ExecSyncResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly exitCode: number;
}

/** Of both streams together: the CRI's 16 MiB, less what keeps the message below the client's limit of the same size. */
const outputLimitBytes = 16 * 1024 * 1024 - 64 * 1024;
const longestTimeoutSeconds = 2_000_000;

/** A non-zero exit code is a result. Fault 'precondition' when the container does not run, 'timeout' after the kill, 'internal' when the command cannot be started. */
export async function execSync(ctx: Ctx, deps: ExecSyncDeps, request: ExecSyncRequest): Promise<ExecSyncResult> {
  if (request.command.length === 0) throw new Fault('invalid', 'cmd: is empty');
  const record = deps.containers.get(request.id);
  if (record.state.name !== 'running') throw new Fault('precondition', `container ${record.id} is not running`);
  const limited = request.timeoutSeconds > 0 ? withTimeout(ctx, Math.min(request.timeoutSeconds, longestTimeoutSeconds) * 1000) : ctx;
  const budget = { bytesLeft: outputLimitBytes };
  const stdout = new OutputPipe(budget);
  const stderr = new OutputPipe(budget);
  try {
    const started = await start(limited, deps, { record, command: request.command, stdout, stderr });
    const exitCode = await endOf(limited, deps, { record, started, command: request.command });
    const [out, err] = await Promise.all([stdout.rest(limited), stderr.rest(limited)]);
    return { stdout: out, stderr: err, exitCode };
  } catch (error) {
    if (error instanceof ExecFailed) throw new Fault('internal', `exec in container ${record.id}: ${(await stderr.rest(limited)).toString('utf8').trim()}`, error);
    throw error;
  } finally {
    stdout.stop();
    stderr.stop();
  }
}

async function start(ctx: Ctx, deps: ExecSyncDeps, exec: { record: ContainerRecord; command: readonly string[]; stdout: OutputPipe; stderr: OutputPipe }): Promise<ExecProcess> {
  try {
    const { record } = exec;
    return await startExec(ctx, deps.runtimeOf(record.runtimeHandler), {
      id: record.id,
      bundleDir: record.bundleDir,
      args: exec.command,
      scratchDir: deps.scratchDir,
      fds: { 0: 'null', 1: exec.stdout.writeFd, 2: exec.stderr.writeFd },
    });
  } finally {
    exec.stdout.closeWriteEnd();
    exec.stderr.closeWriteEnd();
  }
}

async function endOf(ctx: Ctx, deps: ExecSyncDeps, exec: { record: ContainerRecord; started: ExecProcess; command: readonly string[] }): Promise<number> {
  const { record, started } = exec;
  const givenUp = Promise.withResolvers<undefined>();
  const give = (): void => givenUp.resolve(undefined);
  if (ctx.signal.aborted) give();
  ctx.signal.addEventListener('abort', give, { once: true });
  try {
    const exitCode = await Promise.race([started.exited, givenUp.promise]);
    if (exitCode !== undefined) return exitCode;
  } finally {
    ctx.signal.removeEventListener('abort', give);
  }
  await killTree(deps, record, started.process);
  await started.exited;
  throw new Fault(timedOut(ctx) ? 'timeout' : 'canceled', `command ${JSON.stringify(exec.command.join(' '))} in container ${record.id} ${timedOut(ctx) ? 'timed out' : 'was given up'}`, ctx.signal.reason);
}

/** Rounds of looking and killing: each takes away the parents, so that only what was forked meanwhile is left for the next. */
const maxRounds = 10;

/** Kills the process and all that came from it: its descendants and its session, found among the processes of the container. */
async function killTree(deps: ExecSyncDeps, record: ContainerRecord, root: ProcessId): Promise<void> {
  const doomed = new Map<number, ProcessId>([[root.pid, root]]);
  for (let round = 0; round < maxRounds; round++) {
    const before = doomed.size;
    const pids = await deps.cgroups.processes(record.cgroupPath, { recursive: true });
    for (const pid of familyOf(root.pid, [...doomed.keys()], relationsOf(pids))) {
      const id = identify(pid);
      if (id !== undefined) doomed.set(pid, id);
    }
    for (const id of doomed.values()) signalProcess(id, 'SIGKILL');
    if (doomed.size === before && ![...doomed.values()].some(isAlive)) return;
  }
}

interface Relation {
  readonly pid: number;
  readonly parentPid: number;
  readonly session: number;
}

function relationsOf(pids: readonly number[]): Relation[] {
  return pids.flatMap((pid) => {
    try {
      // proc(5): after the command in parentheses come state, parent, process group and session.
      const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [, parentPid, , session] = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number);
      return [{ pid, parentPid: parentPid ?? 0, session: session ?? 0 }];
    } catch {
      // Ended between the listing and now.
      return [];
    }
  });
}

/** Pids of the members of `root`'s session, of its descendants, and of those of the `known`. */
export function familyOf(root: number, known: readonly number[], relations: readonly Relation[]): Set<number> {
  const family = new Set([root, ...known]);
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    for (const { pid, parentPid, session } of relations) if (session === root || family.has(parentPid)) family.add(pid);
  }
  return family;
}
