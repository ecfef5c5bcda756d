/** Finds and runs one plugin, and turns what comes back into a result or a CniError. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { timedOut } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { findProgram, run, type Outcome } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { CniError } from './errors.ts';
import { pluginEnv, type Call } from './plugin-env.ts';
import { parseVersionAnswer } from './result.ts';

/** A result is a few hundred bytes; a plugin that writes more than this is broken. */
const outputLimitBytes = 1024 * 1024;
/** A plugin that is being replaced cannot be run for a moment (ETXTBSY). */
const busyRetries = 5;
const busyRetryMs = 200;
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface PluginCall extends Call {
  readonly plugin: string;
  readonly stdin: string;
}

/** Its executable. Throws CniError naming the directories that were searched. */
async function findPlugin(call: PluginCall, binDirs: readonly string[]): Promise<string> {
  const path = await findProgram(call.plugin, binDirs.join(':'));
  if (path !== undefined) return path;
  throw new CniError({ plugin: call.plugin, verb: call.verb, msg: `not found in ${binDirs.join(', ')}`, kind: 'precondition' });
}

/** stdout of a successful call. A hanging plugin is killed, with its children, when `ctx` is given up. */
export async function execPlugin(ctx: Ctx, call: PluginCall, binDirs: readonly string[]): Promise<string> {
  const path = await findPlugin(call, binDirs);
  const outcome = await runWhenNotBusy(ctx, call, { path, env: pluginEnv(call, { binDirs, searchPath }) });
  const stderr = outcome.stderr.toString('utf8');
  if (outcome.stdout.length >= outputLimitBytes) throw failure(call, { msg: `it printed more than ${outputLimitBytes} bytes`, stderr });
  const stdout = outcome.stdout.toString('utf8');
  if (outcome.exitCode === 0) return stdout;
  const told = readError(stdout);
  if (told === undefined) throw failure(call, { msg: silentFailure(outcome), stderr, details: stdout.trim().slice(0, 1000) });
  // Code 1: incompatible version. Which it can is what the reader wants to know next.
  const details = told.code === 1 && call.verb !== 'VERSION' ? await describeVersions(ctx, call, binDirs, told.details) : told.details;
  throw failure(call, { ...told, details, stderr });
}

const failure = (call: PluginCall, fields: Omit<ConstructorParameters<typeof CniError>[0], 'plugin' | 'verb'>): CniError =>
  new CniError({ plugin: call.plugin, verb: call.verb, ...fields });

async function runWhenNotBusy(ctx: Ctx, call: PluginCall, program: { path: string; env: Record<string, string> }): Promise<Outcome> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await run(ctx, { ...program, args: [], stdin: call.stdin, outputLimitBytes });
    } catch (error) {
      if (ctx.signal.aborted) {
        const ending = timedOut(ctx) ? 'did not finish in time and was killed' : 'was killed because the request was canceled';
        throw new CniError({ plugin: call.plugin, verb: call.verb, msg: ending, kind: timedOut(ctx) ? 'timeout' : 'canceled' }, error);
      }
      if (!isErrno(error, 'ETXTBSY') || tries >= busyRetries) {
        throw new CniError({ plugin: call.plugin, verb: call.verb, msg: `cannot be run: ${error instanceof Error ? error.message : String(error)}` }, error);
      }
      await sleep(busyRetryMs, undefined, { signal: ctx.signal });
    }
  }
}

function silentFailure({ exitCode }: Outcome): string {
  return exitCode > 128 ? `it was ended by signal ${exitCode - 128}` : `exit status ${exitCode} without an error in CNI form`;
}

/** The error object of the spec: `code`, `msg`, `details`. Undefined when stdout is something else. */
function readError(stdout: string): { code: number; msg: string; details: string | undefined } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('msg' in value) || typeof value.msg !== 'string') return undefined;
  const code = 'code' in value && typeof value.code === 'number' ? value.code : 0;
  return { code, msg: value.msg, details: 'details' in value && typeof value.details === 'string' ? value.details : undefined };
}

async function describeVersions(ctx: Ctx, call: PluginCall, binDirs: readonly string[], details: string | undefined): Promise<string | undefined> {
  try {
    return `it speaks ${(await pluginVersions(ctx, call.plugin, binDirs)).join(', ')}`;
  } catch (error) {
    if (error instanceof Fault) return details;
    throw error;
  }
}

/** The spec versions a plugin says it speaks. Throws CniError. */
export async function pluginVersions(ctx: Ctx, plugin: string, binDirs: readonly string[]): Promise<string[]> {
  const call: PluginCall = { verb: 'VERSION', plugin, stdin: JSON.stringify({ cniVersion: '1.0.0' }), netnsPath: '/dev/null', containerId: 'dummy', ifName: 'dummy' };
  const stdout = await execPlugin(ctx, call, binDirs);
  try {
    return parseVersionAnswer(stdout);
  } catch (error) {
    throw failure(call, { msg: error instanceof Error ? error.message : String(error) });
  }
}
