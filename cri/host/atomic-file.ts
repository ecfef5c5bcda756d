/** Writes a file whole or not at all: a temporary file beside it, then rename. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Names that begin so are left-overs of an interrupted write; readers of a directory skip them, start-up removes them. */
export const temporaryPrefix = '.tmp-';

export interface WriteOptions {
  /** Default 0600. */
  readonly mode?: number;
  /** fsync the file and its directory, so that it also survives a power loss. A killed process loses nothing either way. */
  readonly durable?: boolean;
}

/** After a failure the old file is untouched and nothing is left behind. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, options: WriteOptions = {}): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `${temporaryPrefix}${basename(path)}-${randomBytes(6).toString('hex')}`);
  try {
    await using file = await open(temporary, 'wx', options.mode ?? 0o600);
    await file.writeFile(data);
    if (options.durable === true) await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (options.durable === true) await syncDirectory(directory);
}

/** Makes the renames and removals in a directory survive a power loss. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}
