/**
 * A container's writable snapshot: an overlay of the image's layers below and an own upper directory above.
 *
 *   <dir>/rootfs  the mount      <dir>/upper  what the container wrote      <dir>/work  overlayfs's own
 *
 * The caller notes in its record that it owns the snapshot before it prepares it. Both functions may run twice.
 */
import { chmod, chown, mkdir, rm, rmdir, stat } from 'node:fs/promises';
import type { Ctx } from '#host/ctx.ts';
import { treeUsage, type TreeUsage } from '#host/disk.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { mountsBelow } from '#host/mountinfo.ts';
import { bind, isMountPoint, overlayMount, unmount } from '#host/mount.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { ChainId } from './chain-id.ts';
import type { Layers } from './layers.ts';
import { olderWritableOptions, snapshotPaths, writableOptions } from './overlay-options.ts';

export interface SnapshotDeps {
  readonly layers: Pick<Layers, 'exists' | 'directory'>;
}

export interface RootfsRequest {
  /** For messages: the container's id. */
  readonly id: string;
  /** The container's own directory; it exists. */
  readonly dir: string;
  /** Bottom first, as ImageRecord.layers has them. */
  readonly layers: readonly ChainId[];
  /** No upper directory: for an image volume. A container with a read-only root needs a writable overlay too (for its mount points). */
  readonly readonly?: boolean;
}

/** Mounts the snapshot at `<dir>/rootfs`; if it is mounted already, only says where. Throws Fault not-found when a layer is gone. */
export async function prepareRootfs(ctx: Ctx, deps: SnapshotDeps, request: RootfsRequest): Promise<{ rootfs: string }> {
  ctx.signal.throwIfAborted();
  const paths = snapshotPaths(request.dir);
  const missing = request.layers.find((layer) => !deps.layers.exists(layer));
  if (missing !== undefined) throw new Fault('not-found', `prepare the root of ${request.id}: layer ${missing} is not here any more; pull its image again`);
  if (await isMounted(request, paths.rootfs)) return { rootfs: paths.rootfs };
  await mkdir(paths.rootfs, { recursive: true, mode: 0o755 });
  const lower = request.layers.map((layer) => deps.layers.directory(layer)).toReversed();
  try {
    if (request.readonly === true) await mountReadonly(request.dir, paths.rootfs, lower);
    else await mountWritable(request.dir, lower);
  } catch (cause) {
    throw new Fault('internal', `mount the root of ${request.id} from ${lower.length} layers`, cause);
  }
  return { rootfs: paths.rootfs };
}

async function mountWritable(dir: string, lower: readonly string[]): Promise<void> {
  const { rootfs, upper, work } = snapshotPaths(dir);
  await Promise.all([emptied(work), mkdir(upper, { recursive: true, mode: 0o755 }).then(() => adoptRoot(upper, lower))]);
  // An image without layers ("FROM scratch" with nothing added) still needs a lower directory.
  const lowerOrNothing = lower.length > 0 ? lower : [await emptyDirectory(dir)];
  try {
    await overlayMount({ target: rootfs, lower: lowerOrNothing, upper, work, options: writableOptions });
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error;
    await overlayMount({ target: rootfs, lower: lowerOrNothing, upper, work, options: olderWritableOptions });
  }
}

/** What an earlier mount left in `work` is of no use, and its mark of volatility would be refused. */
async function emptied(work: string): Promise<void> {
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { mode: 0o700 });
}

/**
 * `/` of the container is the upper directory, with that one's owner and mode: they come from the topmost layer that says anything about its root.
 * A layer that says nothing was made as root's with 0755.
 */
async function adoptRoot(upper: string, lower: readonly string[]): Promise<void> {
  const all = await Promise.all(lower.map((layer) => stat(layer)));
  const telling = all.find(({ uid, gid, mode }) => uid !== 0 || gid !== 0 || (mode & 0o7777) !== 0o755);
  if (telling === undefined) return;
  await chown(upper, telling.uid, telling.gid);
  await chmod(upper, telling.mode & 0o7777);
}

/** overlayfs wants two lower directories when there is no upper one: a single layer is bound instead. */
async function mountReadonly(dir: string, rootfs: string, lower: readonly string[]): Promise<void> {
  const [first = await emptyDirectory(dir), ...below] = lower;
  if (below.length === 0) await bind({ source: first, target: rootfs, readonly: true });
  else await overlayMount({ target: rootfs, lower });
}

async function emptyDirectory(dir: string): Promise<string> {
  const path = `${dir}/empty`;
  await mkdir(path, { recursive: true, mode: 0o755 });
  return path;
}

/** An overlay shows as another device; the bind of a single layer does not, and is looked up in the table of mounts. */
async function isMounted(request: RootfsRequest, rootfs: string): Promise<boolean> {
  if (await isMountPoint(rootfs)) return true;
  return request.readonly === true && (await mountsBelow(rootfs)).some(({ mountPoint }) => mountPoint === rootfs);
}

/** Unmounts the snapshot and removes everything of it. Not there is fine. */
export async function removeRootfs(_ctx: Ctx, dir: string): Promise<void> {
  const { rootfs, upper, work } = snapshotPaths(dir);
  await unmount(rootfs, { lazy: true });
  await Promise.all([work, upper, `${dir}/empty`].map((path) => rm(path, { recursive: true, force: true })));
  try {
    await rmdir(rootfs);
  } catch (error) {
    // Mounted more than once, or mounted into: the slow way finds everything.
    if (!isErrno(error, 'ENOENT')) await removeTree(rootfs);
  }
}

/** What the container has written, as `crictl stats` shows it: allocated bytes and inodes of the upper directory. Zero when there is none. */
export async function rootfsUsage(ctx: Ctx, dir: string): Promise<TreeUsage> {
  const { upper } = snapshotPaths(dir);
  try {
    await stat(upper);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { usedBytes: 0, inodes: 0 };
    throw error;
  }
  return treeUsage(ctx, upper);
}
