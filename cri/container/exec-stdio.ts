/** The standard streams of an exec, between its process and the client: three pipes, or a terminal. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { listenForConsole, setTerminalSize, terminalStream } from '#host/console.ts';
import type { Ctx } from '#host/ctx.ts';
import { pipe } from '#host/libc.ts';
import type { ExecOrder } from '../oci/exec.ts';
import { Output, outputPipe } from '../oci/output.ts';
import type { ProcessIo, TerminalSize } from '../streaming/targets.ts';
import { feed } from './feed.ts';

/**
 * In order: give `order` to startExec, `started` when it returned or threw, `flow` when the process runs, `rest` when it ended; `stop` in every
 * case (it may be called twice, and after anything).
 */
export interface ExecStdio {
  readonly order: Pick<ExecOrder, 'fds' | 'terminal'>;
  started(): void;
  flow(): void;
  /** All that the process wrote is the client's when this resolves; a descendant that still writes is not waited for. */
  rest(ctx: Ctx): Promise<void>;
  stop(): void;
}

/** What a runtime says before the command runs, when nobody reads yet; one that has more to say waits, until it is killed. */
const aheadOfRuntimeBytes = 2 * 1024 * 1024;

export function pipeStdio(io: ProcessIo): ExecStdio {
  const input = io.stdin === undefined ? undefined : pipe();
  const stdout = io.stdout === undefined ? undefined : outputPipe();
  const stderr = io.stderr === undefined ? undefined : outputPipe({ aheadBytes: aheadOfRuntimeBytes });
  let childFds = [input?.readFd, stdout?.writeFd, stderr?.writeFd].filter((fd) => fd !== undefined);
  const target = input === undefined ? undefined : new Socket({ fd: input.writeFd, readable: false, writable: true });
  let stopFeeding: (() => void) | undefined;
  const started = (): void => {
    for (const fd of childFds) closeSync(fd);
    childFds = [];
  };
  return {
    order: { fds: { 0: input?.readFd ?? 'null', 1: stdout?.writeFd ?? 'null', 2: stderr?.writeFd ?? 'null' } },
    started,
    flow: () => {
      stdout?.output.flowTo(io.stdout);
      stderr?.output.flowTo(io.stderr);
      if (io.stdin !== undefined && target !== undefined) stopFeeding = feed(io.stdin, target, { end: true });
    },
    rest: async (ctx) => void (await Promise.all([stdout?.output.rest(ctx), stderr?.output.rest(ctx)])),
    stop: () => {
      started();
      stopFeeding?.();
      target?.destroy();
      stdout?.output.stop();
      stderr?.output.stop();
    },
  };
}

/** A size that the client has sent already is the terminal's from the first moment with runc; crun 1.8 leaves it to us, who set it a moment later. */
export async function terminalStdio(io: ProcessIo, scratchDir: string): Promise<ExecStdio> {
  const sizes = new LatestSize(io.resizes);
  await sizes.whatIsThere();
  const console = listenForConsole(join(scratchDir, `${randomBytes(6).toString('hex')}.tty`));
  let output: Output | undefined;
  let stopFeeding: (() => void) | undefined;
  return {
    order: { fds: {}, terminal: { consoleSocket: console.path, size: sizes.latest } },
    started: () => undefined,
    flow: () => {
      const master = console.takeMaster();
      const stream = terminalStream(master);
      output = new Output(stream, master);
      output.flowTo(io.stdout);
      // A terminal has no end of input: who wants one types it.
      if (io.stdin !== undefined) stopFeeding = feed(io.stdin, stream, { end: false });
      sizes.follow((size) => setTerminalSize(master, size));
    },
    rest: async (ctx) => output?.rest(ctx),
    stop: () => {
      sizes.stop();
      stopFeeding?.();
      output?.stop();
      console[Symbol.dispose]();
    },
  };
}

/** The newest size of the client's terminal: kept until somebody follows it. */
class LatestSize {
  latest: TerminalSize | undefined;
  #apply: ((size: TerminalSize) => void) | undefined;
  #isStopped = false;

  constructor(sizes: AsyncIterable<TerminalSize>) {
    // Ends with the session; what it fails with is the session's end too.
    void this.#read(sizes).catch(() => undefined);
  }

  /** Lets what the client has sent already arrive. */
  whatIsThere(): Promise<void> {
    return new Promise((resolve) => void setImmediate(resolve));
  }

  follow(apply: (size: TerminalSize) => void): void {
    this.#apply = apply;
    if (this.latest !== undefined) apply(this.latest);
  }

  stop(): void {
    this.#isStopped = true;
  }

  async #read(sizes: AsyncIterable<TerminalSize>): Promise<void> {
    for await (const size of sizes) {
      if (this.#isStopped) return;
      this.latest = size;
      this.#apply?.(size);
    }
  }
}
