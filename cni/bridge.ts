/** The bridge of the generated network: made by its plugin at the first pod, and nobody but us takes it away. */
import { existsSync } from 'node:fs';
import type { Ctx } from '#host/ctx.ts';
import { findProgram, runChecked } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';

/** Deletes the interface `name` if it is a bridge; absent is success: may run twice. Fault precondition without ip(8). */
export async function removeBridge(ctx: Ctx, name: string): Promise<void> {
  if (!existsSync(`/sys/class/net/${name}/bridge`)) return;
  const ip = await findProgram('ip');
  if (ip === undefined) throw new Fault('precondition', `remove the bridge ${name}: ip is not installed (package iproute2)`);
  await runChecked(ctx, { path: ip, args: ['link', 'delete', 'dev', name, 'type', 'bridge'] });
}
