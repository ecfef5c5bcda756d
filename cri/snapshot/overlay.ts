/**
 * A container's writable snapshot: an overlay of the image's layers below and an own upper directory above.
 *
 *   <dir>/rootfs  the mount      <dir>/upper  what the container wrote      <dir>/work  overlayfs's own      <dir>/lower  see mapped-layers.ts
 *
 * The caller notes in its record that it owns the snapshot before it prepares it. Both functions may run twice.
 */
import { chmod, chown, mkdir, rm, rmdir, stat } from 'node:fs/promises';
import type { Ctx } from '#host/ctx.ts';
import { treeUsage, type TreeUsage } from '#host/disk.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { hostIdOf, type IdMappings } from '#host/id-mapping.ts';
import { idmappedBind } from '#host/idmapped-mount.ts';
import { mountsBelow } from '#host/mountinfo.ts';
import { bind, isMountPoint, overlayMount, unmount } from '#host/mount.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { ChainId } from './chain-id.ts';
import type { Layers } from './layers.ts';
import { mappedLayers, removeMappedLayers } from './mapped-layers.ts';
import { olderWritableOptions, snapshotPaths, writableOptions } from './overlay-options.ts';

export interface SnapshotDeps {
  readonly layers: Pick<Layers, 'exists' | 'directory'>;
}

export interface UserNamespace {
  /** Its pin. */
  readonly path: string;
  readonly mappings: IdMappings;
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
  /** The files of the image's root belong to the root of this user namespace; so does what is written. */
  readonly userNamespace?: UserNamespace | undefined;
  /** SELinux label of all its files. */
  readonly mountLabel?: string | undefined;
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
    await (request.readonly === true ? mountReadonly(request, lower) : mountWritable(request, lower));
  } catch (cause) {
    throw new Fault('internal', `mount the root of ${request.id} from ${lower.length} layers`, cause);
  }
  return { rootfs: paths.rootfs };
}

async function mountWritable(request: RootfsRequest, layers: readonly string[]): Promise<void> {
  const { dir, userNamespace } = request;
  const { rootfs, upper, work } = snapshotPaths(dir);
  await Promise.all([emptied(work), mkdir(upper, { recursive: true, mode: 0o755 }).then(() => adoptRoot(upper, layers, userNamespace?.mappings))]);
  // An image without layers ("FROM scratch" with nothing added) still needs a lower directory.
  const all = layers.length > 0 ? layers : [await emptyDirectory(dir)];
  await using mapped = userNamespace && (await mappedLayers(dir, all, userNamespace.path));
  const overlay = { target: rootfs, lower: mapped?.paths ?? all, upper, work, label: request.mountLabel };
  try {
    await overlayMount({ ...overlay, options: writableOptions });
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error;
    await overlayMount({ ...overlay, options: olderWritableOptions });
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
async function adoptRoot(upper: string, lower: readonly string[], mappings: IdMappings | undefined): Promise<void> {
  const all = await Promise.all(lower.map((layer) => stat(layer)));
  const telling = all.find(({ uid, gid, mode }) => uid !== 0 || gid !== 0 || (mode & 0o7777) !== 0o755);
  const { uid, gid } = telling ?? { uid: 0, gid: 0 };
  if (mappings !== undefined) await chown(upper, hostIdOf(mappings.uids, uid), hostIdOf(mappings.gids, gid));
  else if (telling !== undefined) await chown(upper, uid, gid);
  if (telling !== undefined) await chmod(upper, telling.mode & 0o7777);
}

/** overlayfs wants two lower directories when there is no upper one: a single layer is bound instead, but for a label, which only a mount of its own can have. */
async function mountReadonly(request: RootfsRequest, lower: readonly string[]): Promise<void> {
  const { dir, userNamespace, mountLabel: label } = request;
  const { rootfs: target } = snapshotPaths(dir);
  const [source = await emptyDirectory(dir), ...below] = lower;
  if (below.length === 0 && label === undefined) {
    if (userNamespace === undefined) return bind({ source, target, readonly: true });
    return idmappedBind({ source, target, userNamespace: userNamespace.path, readonly: true });
  }
  const all = below.length === 0 ? [source, await emptyDirectory(dir)] : lower;
  await using mapped = userNamespace && (await mappedLayers(dir, all, userNamespace.path));
  await overlayMount({ target, lower: mapped?.paths ?? all, label });
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
  await Promise.all([removeMappedLayers(dir), ...[work, upper, `${dir}/empty`].map((path) => rm(path, { recursive: true, force: true }))]);
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
