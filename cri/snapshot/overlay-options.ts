/** What an overlay mount is made of: directories and option words. Pure. */
import { join } from 'node:path';

/** The parts of a container's snapshot, all below the container's own directory. */
export interface SnapshotPaths {
  /** Where the overlay is mounted: the root of the container. */
  readonly rootfs: string;
  /** What the container writes. */
  readonly upper: string;
  /** Scratch space of overlayfs, on the same file system. */
  readonly work: string;
}

export const snapshotPaths = (dir: string): SnapshotPaths => ({ rootfs: join(dir, 'rootfs'), upper: join(dir, 'upper'), work: join(dir, 'work') });

/**
 * Words for a writable overlay.
 * - `volatile`: a container's writable layer never outlives a power loss, so nothing is gained by writing it back when it is unmounted or when the
 *   container calls fsync, which is what makes an unmount slow. (A layer whose mount was not ended in order is refused by the kernel until
 *   `work` is emptied, which prepareRootfs does.)
 * - `index=off`: the layers are shared by many mounts; with an index, the kernel would want them for one upper directory alone.
 */
export const writableOptions: readonly string[] = ['index=off', 'volatile'];
/** The same for kernels before 5.10, which do not know `volatile`. */
export const olderWritableOptions: readonly string[] = ['index=off'];
