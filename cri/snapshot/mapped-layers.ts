/**
 * The layers of a snapshot as a user namespace sees them: each bound with mapped ids on a tmpfs at `<dir>/lower`. An overlay keeps what it was made
 * from, so they are in the way of nobody for longer than its mount takes; one unmount takes them all.
 */
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { allEnded } from '#host/all-ended.ts';
import { isErrno } from '#host/errno.ts';
import { idmappedBind } from '#host/idmapped-mount.ts';
import { mount, unmount } from '#host/mount.ts';
import { removeTree } from '#host/remove-tree.ts';

export interface MappedLayers extends AsyncDisposable {
  /** In the order of the layers. */
  readonly paths: readonly string[];
}

const mappedDir = (dir: string): string => join(dir, 'lower');

/** `userNamespace` is its pin. May run again after one that was cut off. */
export async function mappedLayers(dir: string, layers: readonly string[], userNamespace: string): Promise<MappedLayers> {
  const below = mappedDir(dir);
  await mkdir(below, { recursive: true, mode: 0o700 });
  await mount({ source: 'tmpfs', target: below, type: 'tmpfs', options: ['mode=700'] });
  try {
    const paths = await allEnded(
      layers.map(async (source, index) => {
        const target = join(below, String(index));
        await mkdir(target);
        await idmappedBind({ source, target, userNamespace });
        return target;
      }),
    );
    return { paths, [Symbol.asyncDispose]: () => removeMappedLayers(dir) };
  } catch (error) {
    await removeMappedLayers(dir);
    throw error;
  }
}

/** Absent is fine: may run twice. */
export async function removeMappedLayers(dir: string): Promise<void> {
  await unmount(mappedDir(dir), { lazy: true });
  try {
    await rmdir(mappedDir(dir));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) await removeTree(mappedDir(dir));
  }
}
