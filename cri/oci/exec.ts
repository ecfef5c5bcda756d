/**
 * A further process in a running container: `runtime exec --detach`. The process gets the caller's descriptors and becomes our child when the
 * runtime ends (#host/orphans.ts), so its exit code reaches us without anything between: no monitor, and no runtime that would wait for a
 * grandchild which keeps stdout open.
 */
import { closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { type Ctx, timedOut } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { spawn } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { pipe } from '#host/libc.ts';
import { adoptedExit, expectOrphan } from '#host/orphans.ts';
import { identify, type ProcessId } from '#host/process.ts';
import { execArgs, type OciRuntime, runtimeEnv } from './runtime.ts';
import type { OciProcess, OciSpec } from './spec-types.ts';

export interface ExecOrder {
  readonly id: string;
  /** Its config.json says as whom, where and how confined the process runs. */
  readonly bundleDir: string;
  readonly args: readonly string[];
  /** Gets short-lived files; a tmpfs. */
  readonly scratchDir: string;
  /** Descriptors for the process; they stay open here: close them after the call. stderr is also where the runtime says what went wrong. */
  readonly fds: Readonly<Record<number, number | 'null'>>;
  /** With a terminal: a unix socket that receives its master. `fds` are then the runtime's own only. */
  readonly consoleSocket?: string | undefined;
}

export interface ExecProcess {
  readonly process: ProcessId;
  /** 128 + n for signal n. */
  readonly exited: Promise<number>;
}

/** The runtime could not start the process; what it said is on the stderr that it was given. */
export class ExecFailed extends Fault {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super('internal', `exec failed with status ${exitCode}`);
    this.name = 'ExecFailed';
    this.exitCode = exitCode;
  }
}

const maxSpecBytes = 4 * 1024 * 1024;

/** As the container's own process, but for the arguments and the terminal. */
export function execProcess(spec: OciSpec, order: { args: readonly string[]; tty: boolean }): OciProcess {
  const env = order.tty && !spec.process.env.some((entry) => entry.startsWith('TERM=')) ? [...spec.process.env, 'TERM=xterm'] : spec.process.env;
  return { ...spec.process, args: order.args, terminal: order.tty, env };
}

function containerSpec(bundleDir: string): OciSpec {
  const text = readFileSync(join(bundleDir, 'config.json'), 'utf8');
  if (text.length > maxSpecBytes) throw new Fault('internal', `${bundleDir}/config.json is too long`);
  return JSON.parse(text) as OciSpec;
}

/**
 * Returns when the process runs. Throws ExecFailed when it cannot be started, Fault timeout or canceled when `ctx` ended before that. Once it
 * runs, `ctx` has no hold on it any more: kill it.
 */
export async function startExec(ctx: Ctx, runtime: OciRuntime, order: ExecOrder): Promise<ExecProcess> {
  ctx.signal.throwIfAborted();
  const process = execProcess(containerSpec(order.bundleDir), { args: order.args, tty: order.consoleSocket !== undefined });
  const stem = join(order.scratchDir, randomBytes(8).toString('hex'));
  const files = { processFile: `${stem}.json`, pidFile: `${stem}.pid` };
  using _ = expectOrphan();
  try {
    // On a tmpfs, or read before, and small: synchronous is quicker than trips through the pool.
    writeFileSync(files.processFile, JSON.stringify(process), { mode: 0o600 });
    const child = spawn({ path: runtime.path, args: execArgs(runtime, { id: order.id, consoleSocket: order.consoleSocket, ...files }), env: runtimeEnv, fds: order.fds });
    const kill = (): void => child.kill('SIGKILL');
    ctx.signal.addEventListener('abort', kill, { once: true });
    const exitCode = await child.exited;
    ctx.signal.removeEventListener('abort', kill);
    const pid = readPid(files.pidFile);
    if (pid === undefined && ctx.signal.aborted) throw new Fault(timedOut(ctx) ? 'timeout' : 'canceled', `exec in container ${order.id}: the runtime did not start it`, ctx.signal.reason);
    if (pid === undefined || (exitCode !== 0 && !ctx.signal.aborted)) throw new ExecFailed(exitCode);
    const exited = adoptedExit(pid);
    return {
      process: identify(pid) ?? { pid, startTicks: 0 },
      exited: exited.then((code) => {
        if (code === undefined) throw new Fault('internal', `exec in container ${order.id}: somebody else took the exit code of process ${pid}`);
        return code;
      }),
    };
  } finally {
    rmSync(files.processFile, { force: true });
    rmSync(files.pidFile, { force: true });
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

/** Output of a process up to a budget that several streams may share; what comes after it is read and dropped. */
export class OutputPipe {
  readonly writeFd: number;
  readonly #stream: Socket;
  readonly #chunks: Buffer[] = [];
  readonly #closed: Promise<void>;
  #lastDataMs = 0;
  #isClosed = false;

  constructor(budget: { bytesLeft: number }) {
    const { readFd, writeFd } = pipe();
    this.writeFd = writeFd;
    this.#stream = new Socket({ fd: readFd, readable: true, writable: false });
    this.#closed = new Promise((resolve) => this.#stream.once('close', () => resolve()));
    void this.#closed.then(() => (this.#isClosed = true));
    this.#stream.on('error', () => this.#stream.destroy());
    this.#stream.on('data', (chunk: Buffer) => {
      this.#lastDataMs = performance.now();
      const kept = chunk.subarray(0, budget.bytesLeft);
      budget.bytesLeft -= kept.length;
      if (kept.length > 0) this.#chunks.push(kept);
    });
  }

  /** To be called when the child has its copy. */
  closeWriteEnd(): void {
    closeSync(this.writeFd);
  }

  /**
   * All output of a process that has ended. What it wrote is in the pipe already; a grandchild that still holds the pipe is not waited for,
   * only until nothing came for a moment, and never long.
   */
  async rest(ctx: Pick<Ctx, 'signal'>): Promise<Buffer> {
    const endMs = performance.now() + longestDrainMs;
    while (!this.#isClosed) {
      await Promise.race([this.#closed, pause(quietMs)]);
      const nowMs = performance.now();
      if (this.#isClosed || ctx.signal.aborted || nowMs >= endMs || nowMs - this.#lastDataMs >= quietMs) break;
    }
    this.#stream.destroy();
    return Buffer.concat(this.#chunks);
  }

  stop(): void {
    this.#stream.destroy();
  }
}

const quietMs = 20;
const longestDrainMs = 1000;

/** A timer may fire before a busy loop has come to read: what is ready is read before the immediate runs. */
const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(() => setImmediate(resolve), ms));
