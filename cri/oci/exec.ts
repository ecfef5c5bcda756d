/**
 * A further process in a running container: `runtime exec --detach`. The process gets the caller's descriptors and becomes our child when the
 * runtime ends (#host/orphans.ts), so its exit code reaches us without anything between: no monitor, and no runtime that would wait for a
 * grandchild which keeps stdout open.
 *
 * While the process runs, `<container>.<random>.pid` in the scratch directory says which one it is, for a daemon that finds it after our death.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { spawn } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { givenUp } from '#host/give-up.ts';
import { adoptedExit, expectOrphan } from '#host/orphans.ts';
import { identify, type ProcessId } from '#host/process.ts';
import { commandLine, execArgs, lastError, type OciRuntime, runtimeEnv } from './runtime.ts';
import type { OciProcess, OciSpec } from './spec-types.ts';
import { giveStdio } from './stdio-owner.ts';

export interface ExecOrder {
  readonly id: string;
  /** Its config.json says as whom, where and how confined the process runs. */
  readonly bundleDir: string;
  readonly args: readonly string[];
  /** Gets small files that do not outlive the process; a tmpfs. */
  readonly scratchDir: string;
  /** Descriptors for the process; they stay open here: close them after the call. stderr is also where the runtime says what went wrong. */
  readonly fds: Readonly<Record<number, number | 'null'>>;
  /** `fds` are then the runtime's own only. */
  readonly terminal?: { readonly consoleSocket: string; readonly size: { readonly columns: number; readonly rows: number } | undefined } | undefined;
}

export interface ExecProcess {
  readonly process: ProcessId;
  /** 128 + n for signal n. */
  readonly exited: Promise<number>;
}

/** For a runtime that is given up: one that ends by itself leaves a process that is known and can be killed. */
const finishingMs = 3000;
const maxSpecBytes = 4 * 1024 * 1024;

/** As the container's own process, but for the arguments and the terminal. */
export function execProcess(spec: OciSpec, order: Pick<ExecOrder, 'args' | 'terminal'>): OciProcess {
  const { args, terminal } = order;
  if (terminal === undefined) return { ...spec.process, args, terminal: false };
  const env = spec.process.env.some((entry) => entry.startsWith('TERM=')) ? spec.process.env : [...spec.process.env, 'TERM=xterm'];
  const { size } = terminal;
  return { ...spec.process, args, terminal: true, env, ...(size !== undefined && { consoleSize: { height: size.rows, width: size.columns } }) };
}

function containerSpec(bundleDir: string): OciSpec {
  const text = readFileSync(join(bundleDir, 'config.json'), 'utf8');
  if (text.length > maxSpecBytes) throw new Fault('internal', `${bundleDir}/config.json is too long`);
  return JSON.parse(text) as OciSpec;
}

/**
 * Returns when the process runs. Throws Fault internal with the runtime's words when it cannot be started, Fault timeout or canceled when `ctx` ended before that. Once it
 * runs, `ctx` has no hold on it any more: kill it.
 */
export async function startExec(ctx: Ctx, runtime: OciRuntime, order: ExecOrder): Promise<ExecProcess> {
  ctx.signal.throwIfAborted();
  const spec = containerSpec(order.bundleDir);
  const process = execProcess(spec, order);
  giveStdio(spec, Object.values(order.fds));
  const stem = join(order.scratchDir, `${order.id}.${randomBytes(8).toString('hex')}`);
  const files = { processFile: `${stem}.json`, pidFile: `${stem}.pid`, logFile: `${stem}.log` };
  const forgetProcess = (): void => rmSync(files.pidFile, { force: true });
  using _ = expectOrphan();
  using _moves = runtime.moves.hold();
  try {
    // On a tmpfs, or read before, and small: synchronous is quicker than trips through the pool.
    writeFileSync(files.processFile, JSON.stringify(process), { mode: 0o600 });
    const child = spawn({ ...commandLine(runtime, 'other', execArgs(runtime, { id: order.id, consoleSocket: order.terminal?.consoleSocket, ...files })), env: runtimeEnv, fds: order.fds });
    const limited = withTimeout(ctx, runtime.timeoutMs);
    let killing: NodeJS.Timeout | undefined;
    const kill = (): void => void (killing = setTimeout(() => child.kill('SIGKILL'), finishingMs));
    limited.signal.addEventListener('abort', kill, { once: true });
    const exitCode = await child.exited;
    clearTimeout(killing);
    limited.signal.removeEventListener('abort', kill);
    const pid = readPid(files.pidFile);
    if (pid === undefined && limited.signal.aborted) throw givenUp(limited, `exec in container ${order.id}: the runtime did not start it`);
    if (pid === undefined || (exitCode !== 0 && !limited.signal.aborted)) throw new Fault('internal', `exec in container ${order.id}: ${await lastError(files.logFile, exitCode)}`);
    const id = identify(pid) ?? { pid, startTicks: 0 };
    writeFileSync(files.pidFile, formatProcessId(id));
    const exited = adoptedExit(pid).finally(forgetProcess);
    return {
      process: id,
      exited: exited.then((code) => {
        if (code === undefined) throw new Fault('internal', `exec in container ${order.id}: somebody else took the exit code of process ${pid}`);
        return code;
      }),
    };
  } catch (error) {
    forgetProcess();
    throw error;
  } finally {
    rmSync(files.processFile, { force: true });
    rmSync(files.logFile, { force: true });
  }
}

function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8').trim());
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

const formatProcessId = ({ pid, startTicks }: ProcessId): string => `${pid} ${startTicks}\n`;

export interface LeftoverExec {
  readonly containerId: string;
  /** With 0 for a start time that was not noted any more. */
  readonly process: ProcessId;
}

/** The processes of an earlier daemon's execs, as far as their files say; the files are taken away. Call before the first startExec. */
export function takeLeftoverExecs(scratchDir: string): LeftoverExec[] {
  const found: LeftoverExec[] = [];
  for (const name of readdirSync(scratchDir)) {
    const path = join(scratchDir, name);
    const containerId = name.split('.')[0] ?? '';
    if (name.endsWith('.pid')) {
      const [pid = 0, startTicks = 0] = readFileSync(path, 'latin1').trim().split(' ').map(Number);
      if (Number.isSafeInteger(pid) && pid > 0) found.push({ containerId, process: { pid, startTicks } });
    }
    rmSync(path, { force: true });
  }
  return found;
}
