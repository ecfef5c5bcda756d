/**
 * Reading and writing the files and directories of one cgroup hierarchy.
 *
 * Reads are synchronous on purpose: a cgroup file takes 15…30 µs that way and five times as much through the thread pool.
 * So that many readers together never hold up the event loop, they take turns (`readCgroupFile`).
 */
import { constants, readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, readdir, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hugepageSize, parsePids } from './cgroup-parse.ts';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { turn } from './turns.ts';

/** The text of a file; undefined when the group or the file is not there. */
export async function readCgroupFile(path: string): Promise<string | undefined> {
  await turn();
  return readCgroupFileNow(path);
}

/** The same for who has waited for a turn. ENODEV: the group went while the file was open. */
export function readCgroupFileNow(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV', 'ENOTDIR', 'EOPNOTSUPP')) return undefined;
    throw error;
  }
}

/** Writes in one write(2), without creating: O_CREAT on a cgroup file that does not exist says EACCES instead of ENOENT. */
export async function writeCgroupFile(path: string, value: string): Promise<void> {
  const file = await open(path, constants.O_WRONLY);
  try {
    await file.write(value);
  } finally {
    await file.close();
  }
}

/** Makes a group and its missing parents, top down; answers the directories it made. `root` must exist. */
export async function makeGroups(root: string, parts: readonly string[]): Promise<string[]> {
  const directory = join(root, ...parts);
  try {
    await mkdir(directory);
    return [directory];
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return [];
    if (!isErrno(error, 'ENOENT') || parts.length <= 1) throw error;
  }
  const made = await makeGroups(root, parts.slice(0, -1));
  return [...made, ...(await makeGroups(root, parts))];
}

/** Names of the groups directly in a directory; empty when it is gone. */
export async function groupsIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ENODEV')) return [];
    throw error;
  }
}

/** The directory and all below it, deepest first. A directory that is gone is listed all the same. */
export async function groupsDeepestFirst(directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await groupsIn(directory)) found.push(...(await groupsDeepestFirst(join(directory, name))));
  return [...found, directory];
}

export async function pidsIn(directories: readonly string[]): Promise<Set<number>> {
  const pids = new Set<number>();
  for (const directory of directories) {
    for (const pid of parsePids((await readCgroupFile(join(directory, 'cgroup.procs'))) ?? '')) pids.add(pid);
  }
  return pids;
}

let sizes: readonly string[] | undefined;
/** Of the huge pages that this kernel has, in the spelling of the hugetlb controller. */
export function hugepageSizes(): readonly string[] {
  sizes ??= readNames('/sys/kernel/mm/hugepages').flatMap((name) => hugepageSize(name) ?? []);
  return sizes;
}

function readNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Removes directories with what is below them; true when all are gone, false when one is still busy. */
export async function tryRemove(directories: readonly string[]): Promise<boolean> {
  const results = await Promise.all(directories.map(async (top) => {
    for (const directory of await groupsDeepestFirst(top)) {
      try {
        await rmdir(directory);
      } catch (error) {
        if (isErrno(error, 'EBUSY', 'ENOTEMPTY')) return false;
        if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
      }
    }
    return true;
  }));
  return results.every(Boolean);
}

const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 100;

/**
 * Does `attempt` until it says true, with growing pauses: the kernel has no event for "the last dying process has left" that works on v1 too.
 * Fault 'timeout' when `waitMs` are over, Fault 'canceled' when the caller has gone.
 */
export async function insist(ctx: Ctx, what: string, waitMs: number, attempt: () => Promise<boolean>): Promise<void> {
  const givenUpAt = performance.now() + waitMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    if (await attempt()) return;
    if (ctx.signal.aborted) throw new Fault('canceled', `${what}: given up`, ctx.signal.reason);
    if (performance.now() >= givenUpAt) throw new Fault('timeout', `${what}: still busy after ${waitMs} ms`);
    await sleep(pauseMs);
  }
}

/** SIGKILL; a process that is gone is fine. Never ourselves. */
export function killAll(pids: Iterable<number>): void {
  for (const pid of pids) {
    if (pid === process.pid) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error;
    }
  }
}

/** Puts what was being set on which group in front of the kernel's errno. */
export async function writeSetting(directory: string, setting: { file: string; value: string }): Promise<void> {
  const path = join(directory, setting.file);
  try {
    await writeCgroupFile(path, setting.value);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) {
      const groupGone = (await readCgroupFile(join(dirname(path), 'cgroup.procs'))) === undefined;
      throw new Fault(groupGone ? 'not-found' : 'precondition', `cgroup ${directory}: ${groupGone ? 'no such group' : `no ${setting.file} here`}`, error);
    }
    throw new Fault('internal', `cgroup: write ${JSON.stringify(setting.value)} to ${path}`, error);
  }
}
