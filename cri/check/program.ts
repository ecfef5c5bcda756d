/** Which programs are installed, and which version of them. */
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { findProgram, run } from '#host/exec.ts';
import type { Program } from './facts.ts';

export const programTimeoutMs = 10_000;

/** `name` is searched like a command, or a path. */
export async function findVersion(ctx: Ctx, name: string): Promise<Program> {
  const path = await findProgram(name);
  if (path === undefined) return { name, path, version: '' };
  try {
    const { stdout, stderr } = await run(withTimeout(ctx, programTimeoutMs), { path, args: ['--version'] });
    const [first = ''] = `${stdout.toString('utf8')}\n${stderr.toString('utf8')}`.trim().split('\n');
    return { name, path, version: /\d/.test(first) ? first.replace(/ version |: /, ' ') : '' };
  } catch {
    ctx.signal.throwIfAborted();
    return { name, path, version: '' };
  }
}
