/** `nodelet wipe`: everything that nodelet made on this machine goes. May be repeated. */
import { rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isErrno } from '../errno.ts';
import { commandLog } from './one-off.ts';
import type { Invocation } from './program.ts';
import { lockRoot } from './root-lock.ts';
import { loadSettings } from './settings.ts';

/** Refuses, before anything is touched, while a nodelet runs on these directories. */
export async function wipe({ program, flags }: Invocation): Promise<number> {
  const settings = await loadSettings(program, flags);
  const { halves } = program;
  const ctx = { signal: new AbortController().signal, log: commandLog(flags, settings) };
  const lockFiles = halves.map((half) => half.lockFile(settings.of(half)));
  using locks = new DisposableStack();
  for (const file of lockFiles) locks.use(await lockRoot(file));
  for (const half of halves) await half.wipe(ctx, settings.of(half));
  // With the locks in them still held: whoever waits for one finds it gone.
  for (const file of lockFiles) await rm(file, { force: true });
  const roots = new Set(lockFiles.map((file) => dirname(file)));
  for (const root of roots) await removeIfEmpty(root);
  console.log(`removed everything of nodelet in ${[...roots].join(' and ')}`);
  return 0;
}

async function removeIfEmpty(dir: string): Promise<void> {
  await rmdir(dir).catch((error: unknown) => {
    // Somebody keeps something else there, or it is a mount.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY')) throw error;
  });
}
