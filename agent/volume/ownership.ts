/** fsGroup: hands a volume's files to a group of the pod. */
import { chmod, lchown, lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';

/** Source: kubelet pkg/volume/volume_linux.go. */
const readWrite = 0o660;
const readOnlyBits = 0o440;
const directoryBits = 0o2110;

/** Gives `path` and everything below it to `group`; links are handed over themselves and not followed. May run twice. */
export async function applyFsGroup(ctx: Ctx, path: string, group: number, readOnly = false): Promise<void> {
  ctx.signal.throwIfAborted();
  const info = await lstat(path);
  await lchown(path, -1, group);
  if (info.isSymbolicLink()) return;
  const bits = (readOnly ? readOnlyBits : readWrite) | (info.isDirectory() ? directoryBits : 0);
  await chmod(path, (info.mode & 0o7777) | bits);
  if (!info.isDirectory()) return;
  for await (const entry of await opendir(path)) await applyFsGroup(ctx, join(path, entry.name), group, readOnly);
}
