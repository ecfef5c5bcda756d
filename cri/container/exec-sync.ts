/** ExecSync: an exec whose client is a buffer, with a time limit. */
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { Collector } from '../oci/output.ts';
import { exec, type ExecDeps } from './exec.ts';

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

/** Of both streams together: the CRI's 16 MiB, less what keeps the message below the client's limit of the same size. What comes after it is dropped. */
const outputLimitBytes = 16 * 1024 * 1024 - 64 * 1024;
const longestTimeoutSeconds = 2_000_000;

/** A non-zero exit code is a result. Faults as `exec`; 'timeout' comes after the kill. */
export async function execSync(ctx: Ctx, deps: ExecDeps, request: ExecSyncRequest): Promise<ExecSyncResult> {
  const limited = request.timeoutSeconds > 0 ? withTimeout(ctx, Math.min(request.timeoutSeconds, longestTimeoutSeconds) * 1000) : ctx;
  const budget = { bytesLeft: outputLimitBytes };
  const [stdout, stderr] = [new Collector(budget), new Collector(budget)];
  const exitCode = await exec(limited, deps, { containerId: request.id, command: request.command, tty: false }, { stdin: undefined, stdout, stderr, resizes: noResizes });
  return { stdout: stdout.bytes(), stderr: stderr.bytes(), exitCode };
}

const noResizes: AsyncIterable<never> = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }) };
