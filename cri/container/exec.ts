/**
 * Exec: a command in a running container, connected to a client. The client sets the pace in both directions. When it goes away, the command
 * dies with all its descendants; a descendant that outlives the command is left alone, and not waited for.
 *
 *   start ──▶ runs, streams flow ──▶ ended ──▶ what it still had to say is handed over ──▶ exit code
 *               └── ctx ends: killed with its descendants ──▶ Fault timeout or canceled
 *
 * An exec does not outlive the daemon, which is in its data path: the next one kills what it finds (`killLeftoverExecs`).
 */
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, timedOut } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { unlessGivenUp } from '#host/give-up.ts';
import { type ExecProcess, startExec } from '../oci/exec.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ProcessIo } from '../streaming/targets.ts';
import { type ExecStdio, pipeStdio, terminalStdio } from './exec-stdio.ts';
import { killTree } from './kill-tree.ts';

export interface ExecDeps {
  readonly containers: Pick<ContainerStore, 'get'>;
  readonly runtimeOf: (handler: string) => OciRuntime;
  readonly cgroups: Pick<Cgroups, 'processes'>;
  /** For small files that live no longer than the process; on a tmpfs, exists. */
  readonly scratchDir: string;
}

export interface ExecRequest {
  readonly containerId: string;
  readonly command: readonly string[];
  readonly tty: boolean;
}

/**
 * The exit code; any is a result. Fault 'precondition' when the container does not run, 'internal' with the runtime's words when the command
 * cannot be started, 'timeout' or 'canceled' after the kill.
 */
export async function exec(ctx: Ctx, deps: ExecDeps, request: ExecRequest, io: ProcessIo): Promise<number> {
  if (request.command.length === 0) throw new Fault('invalid', 'cmd: is empty');
  const record = deps.containers.get(request.containerId);
  if (record.state.name !== 'running') throw new Fault('precondition', `container ${record.id} is not running`);
  const stdio = request.tty ? await terminalStdio(io, deps.scratchDir) : pipeStdio(io);
  try {
    const started = await start(ctx, deps, { record, command: request.command, stdio });
    try {
      stdio.flow();
    } catch (error) {
      await killTree(deps.cgroups, record.cgroupPath, started.process);
      throw error;
    }
    const exitCode = await endOf(ctx, deps, { record, started, command: request.command });
    await stdio.rest(ctx);
    return exitCode;
  } finally {
    stdio.stop();
  }
}

async function start(ctx: Ctx, deps: ExecDeps, exec: { record: ContainerRecord; command: readonly string[]; stdio: ExecStdio }): Promise<ExecProcess> {
  const { record, command, stdio } = exec;
  try {
    const { id, bundleDir } = record;
    return await startExec(ctx, deps.runtimeOf(record.runtimeHandler), { id, bundleDir, args: command, scratchDir: deps.scratchDir, ...stdio.order });
  } finally {
    stdio.started();
  }
}

async function endOf(ctx: Ctx, deps: ExecDeps, exec: { record: ContainerRecord; started: ExecProcess; command: readonly string[] }): Promise<number> {
  const { record, started } = exec;
  try {
    return await unlessGivenUp(ctx, started.exited);
  } catch (error) {
    if (!ctx.signal.aborted) throw error;
  }
  await killTree(deps.cgroups, record.cgroupPath, started.process);
  await started.exited;
  const [kind, what] = timedOut(ctx) ? (['timeout', 'timed out'] as const) : (['canceled', 'was given up'] as const);
  throw new Fault(kind, `command ${JSON.stringify(exec.command.join(' '))} in container ${record.id} ${what}`, ctx.signal.reason);
}
