/**
 * The second look at a layer that was unpacked alone, once the layers below are there. A directory that no entry of the layer describes would hide
 * the one below with attributes of its own; it takes over what that one has. Where there is a symlink below instead, or a hard link of the layer
 * points at a file below, the layer has to be unpacked again with the layers below in view. Synchronous, for worker threads.
 */
import { LayerPaths } from './layer-paths.ts';
import { lookUpLower } from './lower-view.ts';

export interface SettleRequest {
  readonly directory: string;
  readonly implicitDirectories: readonly string[];
  /** Topmost first. */
  readonly lowers: readonly string[];
}

/** False: unpack it again. */
export function settleLayer(request: SettleRequest): boolean {
  const { lowers, implicitDirectories } = request;
  const found = implicitDirectories.map((path) => ({ path, lower: lookUpLower(lowers, path.split('/')) }));
  if (found.some(({ lower }) => lower !== undefined && !lower.stats.isDirectory())) return false;
  using paths = new LayerPaths(request.directory, undefined);
  for (const { path, lower } of found) {
    if (lower === undefined) continue;
    const components = path.split('/');
    const parent = paths.existingParent(components.slice(0, -1));
    const name = components.at(-1) ?? '';
    if (parent === undefined || parent.directory.stat(name)?.isDirectory() !== true) continue;
    paths.adopt(lower, parent.directory, name);
    parent.directory.setTime(name, { seconds: lower.stats.mtimeNs / 1_000_000_000n, nanoseconds: Number(lower.stats.mtimeNs % 1_000_000_000n) });
  }
  return true;
}
