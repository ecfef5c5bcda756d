/** Whether pods can have user namespaces on this machine: tried with everything that they need, in a scratch directory. */
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import type { IdMappings } from '#host/id-mapping.ts';
import { namespacePath, unpinNamespaces } from '#host/namespaces.ts';
import { removeTree } from '#host/remove-tree.ts';
import { pinUserNamespaces } from '#host/user-namespace.ts';
import type { ChainId } from './chain-id.ts';
import { prepareRootfs, removeRootfs } from './overlay.ts';

const trial = [{ containerId: 0, hostId: 1_000_000, size: 65_536 }];
const mappings: IdMappings = { uids: trial, gids: trial };

/**
 * Undefined when they work, otherwise why not. `dir` is on the file system of the layers, `pinDir` where namespaces are pinned; both are removed.
 */
export async function whyNoUserNamespaces(ctx: Ctx, places: { dir: string; pinDir: string }): Promise<string | undefined> {
  const { dir, pinDir } = places;
  const closed = await firstClosed(dirname(dir));
  if (closed !== undefined) return `the directory ${closed} cannot be entered by others (chmod o+x)`;
  try {
    await clear(ctx, places);
    await mkdir(join(dir, 'layer'), { recursive: true });
    await writeFile(join(dir, 'layer', 'file'), '');
    await pinUserNamespaces(ctx, { dir: pinDir, kinds: [], mappings });
    const layers = { exists: () => true, directory: () => join(dir, 'layer') };
    const userNamespace = { path: namespacePath(pinDir, 'user'), mappings };
    const { rootfs } = await prepareRootfs(ctx, { layers }, { id: 'probe', dir, layers: ['probe' as ChainId], userNamespace });
    const { uid } = await stat(join(rootfs, 'file'));
    return uid === trial[0]?.hostId ? undefined : `the file system of ${dir} does not map ids`;
  } catch (error) {
    ctx.signal.throwIfAborted();
    return explain(error);
  } finally {
    await clear(ctx, places);
  }
}

async function clear(ctx: Ctx, { dir, pinDir }: { dir: string; pinDir: string }): Promise<void> {
  unpinNamespaces(pinDir);
  await removeRootfs(ctx, dir);
  await removeTree(dir);
}

/** The first directory on the way to `path` through which a mapped root could not pass. */
async function firstClosed(path: string): Promise<string | undefined> {
  const above = path === '/' ? undefined : await firstClosed(dirname(path));
  if (above !== undefined) return above;
  const { mode } = await stat(path);
  return (mode & 0o001) === 0 ? path : undefined;
}
