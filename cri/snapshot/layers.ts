/**
 * Layers on disk. A *layer* is a directory that overlayfs can use as a lower directory; it is called by its chain id.
 *
 * A layer exists if and only if it was renamed into place: there is no other list that could disagree with the disk after a crash. It is
 * made under a temporary name, written back to the disk, and then renamed; whatever still has a temporary name when we start is rubbish.
 * The directory is for root only: layers hold setuid programs and device nodes.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, renameSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory, temporaryPrefix } from '#host/atomic-file.ts';
import { syncFileSystemOf } from '#host/directory.ts';
import { isErrno } from '#host/errno.ts';
import { chainIdToName, nameToChainId, type ChainId } from './chain-id.ts';
import { makeTemporary, sweepTemporaries, type TemporaryDirectory } from './temporary.ts';

export class Layers {
  readonly root: string;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;

  private constructor(root: string) {
    this.root = root;
  }

  /** Makes the directory if there is none. */
  static async open(root: string): Promise<Layers> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    return new Layers(root);
  }

  exists(chainId: ChainId): boolean {
    return existsSync(this.directory(chainId));
  }

  /** Where the layer is, or would be. */
  directory(chainId: ChainId): string {
    return join(this.root, chainIdToName(chainId));
  }

  /** An empty directory to make a layer in, on the way to `commit`. */
  temporary(): Promise<TemporaryDirectory> {
    return makeTemporary(this.root);
  }

  /**
   * Makes the finished directory the layer `chainId`, surviving a power loss. If that layer came into being meanwhile (another process imported it),
   * ours is left to be dropped: both are the same.
   */
  async commit(chainId: ChainId, temporary: TemporaryDirectory): Promise<void> {
    await this.#writeBack();
    try {
      await rename(temporary.path, this.directory(chainId));
    } catch (error) {
      if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
    }
  }

  /** Makes the renames so far survive a power loss: before a record that relies on them is written. */
  async syncNames(): Promise<void> {
    await syncDirectory(this.root);
  }

  /**
   * Gone at once (before this returns a promise: nobody can begin to rely on it meanwhile), the space a little later. Absent is fine. Whether somebody
   * still needs the layer is for the caller to know.
   */
  async remove(chainId: ChainId): Promise<void> {
    const doomed = join(this.root, `${temporaryPrefix}${randomBytes(8).toString('hex')}`);
    try {
      renameSync(this.directory(chainId), doomed);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      throw error;
    }
    await rm(doomed, { recursive: true, force: true });
  }

  async list(): Promise<ChainId[]> {
    return (await readdir(this.root)).map(nameToChainId).filter((id) => id !== undefined);
  }

  /** Removes what processes that died left half made or half removed. */
  async sweepTemporary(): Promise<void> {
    await sweepTemporaries(this.root);
  }

  /** One syncfs(2) serves all who asked before it began: those who come while one runs share the next. */
  async #writeBack(): Promise<void> {
    if (this.#syncing === undefined) {
      this.#syncing = syncFileSystemOf(this.root).finally(() => (this.#syncing = undefined));
      return this.#syncing;
    }
    this.#nextSync ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#nextSync = undefined;
        return this.#writeBack();
      });
    return this.#nextSync;
  }
}
