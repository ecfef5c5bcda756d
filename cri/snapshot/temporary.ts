/**
 * Directories in which something is being made. Whoever makes one holds a lock on it, so that the sweep of another process (`nodelet image ls` beside the
 * server) knows that it is in use; one that nobody holds was left by a process that died.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryPrefix } from '#host/atomic-file.ts';
import { isErrno } from '#host/errno.ts';
import { lockDirectory } from '#host/lock-file.ts';

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
  /** It was moved to its place, or is not wanted any more: removes what is left at `path`. May be called twice. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A new directory in `parent`, which exists. */
export async function makeTemporary(parent: string): Promise<TemporaryDirectory> {
  for (;;) {
    const path = join(parent, `${temporaryPrefix}${randomBytes(8).toString('hex')}`);
    await mkdir(path, { mode: 0o755 });
    const lock = lockIfThere(path);
    // Swept between the two lines: another one.
    if (lock === undefined) continue;
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        await rm(path, { recursive: true, force: true });
        lock[Symbol.dispose]();
      },
    };
  }
}

/** Removes those in `parent` that nobody holds. */
export async function sweepTemporaries(parent: string): Promise<void> {
  for (const entry of await readdir(parent, { withFileTypes: true })) {
    if (!entry.name.startsWith(temporaryPrefix) || !entry.isDirectory()) continue;
    const path = join(parent, entry.name);
    using lock = lockIfThere(path);
    if (lock !== undefined) await rm(path, { recursive: true, force: true });
  }
}

function lockIfThere(path: string): Disposable | undefined {
  try {
    return lockDirectory(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
