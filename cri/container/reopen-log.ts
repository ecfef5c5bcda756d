/** ReopenContainerLog: after the kubelet has moved the log away, the monitor opens a new one at the old place. Synchronous (CRI api.proto). */
import { watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { unlessGivenUp } from '#host/give-up.ts';
import { namesIn } from '#host/names-in.ts';
import { reopenMessage, writeControl } from '../oci/conmon.ts';
import type { ContainerStore } from '../state/container-store.ts';

export interface ReopenDeps {
  readonly containers: Pick<ContainerStore, 'get'>;
}

const reopenTimeoutMs = 10_000;

/** Returns when the file is there. Fault 'precondition' when the container does not run; no file is made then. */
export async function reopenContainerLog(ctx: Ctx, deps: ReopenDeps, idOrPrefix: string): Promise<void> {
  const record = deps.containers.get(idOrPrefix);
  if (record.state.name !== 'running') throw new Fault('precondition', `container ${record.id} is not running`);
  const { logPath } = record;
  if (logPath === undefined) return;
  const before = await inodeOf(logPath);
  // Nobody moved it, and conmon would put an empty file in its place (conmon, reopen_k8s_file).
  if (before !== undefined && record.monitor !== undefined && (await hasOpen(record.monitor.pid, before))) return;
  if (before !== undefined) {
    // Somebody else's file: that it is replaced cannot be seen and need not be waited for.
    await writeControl(record.bundleDir, reopenMessage);
    return;
  }
  await made(withTimeout(ctx, reopenTimeoutMs), logPath, () => writeControl(record.bundleDir, reopenMessage));
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  try {
    return (await stat(path, { bigint: true })).ino;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Descriptors that are closed meanwhile are not it. */
async function hasOpen(pid: number, inode: bigint): Promise<boolean> {
  const descriptors = await namesIn(`/proc/${pid}/fd`);
  const inodes = await Promise.all(descriptors.map((name) => inodeOf(`/proc/${pid}/fd/${name}`)));
  return inodes.includes(inode);
}

/** Calls `ask` and waits until `path` exists, told by the directory. */
async function made(ctx: Ctx, path: string, ask: () => Promise<void>): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const look = (): void => void inodeOf(path).then((inode) => inode === undefined || resolve(), reject);
  const watcher = watch(dirname(path), (_, name) => {
    if (name === null || name === basename(path)) look();
  });
  watcher.on('error', reject);
  try {
    await ask();
    look();
    await unlessGivenUp(ctx, promise, `the monitor did not reopen ${path}`);
  } finally {
    watcher.close();
  }
}
