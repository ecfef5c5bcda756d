/**
 * Writes the files of a volume so that a container sees all of the old ones or all of the new ones.
 *
 *   <dir>/..2026_01_02_03_04_05.678901234/app.conf     the files, in a directory of their own
 *   <dir>/..data        → ..2026_01_02_03_04_05.678901234     swapped by one rename
 *   <dir>/app.conf      → ..data/app.conf
 *
 * Source: kubelet pkg/volume/util/atomic_writer.go; programs watch `..data`, so names and the order of steps are part of the contract.
 */
import { constants } from 'node:fs';
import { chmod, chown, lstat, mkdir, readdir, readFile, readlink, rename, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import type { Payload } from './payload.ts';

const dataLink = '..data';
const newDataLink = '..data_tmp';
const maxFileName = 255;
const maxPath = 4096;

export interface WriteOptions {
  /** Runs on the new directory before anybody can see it. */
  readonly beforePublish?: (directory: string) => Promise<void>;
  readonly now?: Date;
}

/** True if anything changed. Left-overs of an interrupted write are removed. */
export async function writePayload(dir: string, given: Payload, options: WriteOptions = {}): Promise<boolean> {
  const payload = checkPayload(given);
  const oldName = await currentName(dir);
  if (oldName !== undefined && (await isSame(join(dir, oldName), payload))) {
    await linkNames(dir, payload);
    return false;
  }
  const newName = directoryName(options.now ?? new Date());
  const fresh = join(dir, newName);
  await mkdir(fresh, { mode: 0o755 });
  try {
    await chmod(fresh, 0o755); // whatever the umask
    await writeFiles(fresh, payload);
    await options.beforePublish?.(fresh);
    await rm(join(dir, newDataLink), { force: true });
    await symlink(newName, join(dir, newDataLink));
    await rename(join(dir, newDataLink), join(dir, dataLink));
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw error;
  }
  await linkNames(dir, payload);
  await removeStale(dir, payload, newName);
  return true;
}

function checkPayload(payload: Payload): Payload {
  const checked: Payload = new Map();
  for (const [path, file] of payload) {
    const parts = path.split('/');
    if (path === '') throw new Fault('invalid', 'invalid path: must not be empty: ""');
    if (path.startsWith('/')) throw new Fault('invalid', `invalid path: must be relative path: ${path}`);
    if (path.length > maxPath) throw new Fault('invalid', `invalid path: must be less than or equal to ${maxPath} characters`);
    if (parts.includes('..')) throw new Fault('invalid', `invalid path: must not contain '..': ${path}`);
    if (parts[0]?.startsWith('..') === true) throw new Fault('invalid', `invalid path: must not start with '..': ${path}`);
    if (parts.some((part) => Buffer.byteLength(part) > maxFileName)) throw new Fault('invalid', `invalid path: filenames must be less than or equal to ${maxFileName} characters`);
    checked.set(normalize(path), file);
  }
  return checked;
}

async function currentName(dir: string): Promise<string | undefined> {
  try {
    return await readlink(join(dir, dataLink));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The same files with the same bytes and modes. Group bits that fsGroup added do not count as a difference. */
async function isSame(directory: string, payload: Payload): Promise<boolean> {
  try {
    const present = await filesBelow(directory);
    if (present.length !== payload.size) return false;
    for (const [path, file] of payload) {
      const full = join(directory, path);
      const { mode, size, uid } = await stat(full);
      const kept = file.mode & 0o777;
      if (size !== file.data.length || (mode & kept) !== kept || (file.uid !== undefined && uid !== file.uid)) return false;
      if (!(await readFile(full)).equals(file.data)) return false;
    }
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
}

async function writeFiles(directory: string, payload: Payload): Promise<void> {
  for (const [path, { data, mode, uid }] of payload) {
    const full = join(directory, path);
    await makeDirectories(directory, dirname(path));
    await writeFile(full, data, { mode, flag: 'wx' });
    await chmod(full, mode);
    if (uid !== undefined) await chown(full, uid, -1);
  }
}

async function makeDirectories(top: string, relative: string): Promise<void> {
  let at = top;
  for (const part of relative.split('/')) {
    if (part === '.') continue;
    at = join(at, part);
    try {
      await mkdir(at, { mode: 0o755 });
      await chmod(at, 0o755);
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
  }
}

const firstParts = (payload: Payload): Set<string> => new Set([...payload.keys()].map((path) => path.split('/')[0] ?? path));

async function linkNames(dir: string, payload: Payload): Promise<void> {
  for (const name of firstParts(payload)) {
    try {
      await symlink(join(dataLink, name), join(dir, name));
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
  }
}

/** Names that are no longer part of it, and every directory but the one in use. */
async function removeStale(dir: string, payload: Payload, inUse: string): Promise<void> {
  const wanted = firstParts(payload);
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    if (name.startsWith('..')) {
      if (name !== dataLink && name !== newDataLink && name !== inUse) await rm(path, { recursive: true, force: true });
    } else if (!wanted.has(name) && ((await lstat(path)).mode & constants.S_IFMT) === constants.S_IFLNK) {
      await unlink(path);
    }
  }
}

function directoryName(now: Date): string {
  const digits = now.toISOString().slice(0, 19).replace(/[-T:]/g, '_');
  return `..${digits}.${String(Math.floor(Math.random() * 4_294_967_296))}`;
}
