/** "Something in this directory changed": inotify through fs.watch, gathered, with a rescan now and then for what inotify loses. */
import { watch, type FSWatcher } from 'node:fs';
import type { Ctx } from './ctx.ts';

export interface WatchOptions {
  /** Changes closer together than this make one call. Default 100. */
  readonly debounceMs?: number;
  /** Also called this often without any change; and how soon a directory that appears is noticed. Default 20 000, the kubelet's. */
  readonly rescanMs?: number;
  /** Names of entries whose changes count; default: all. Rescans call regardless. */
  readonly only?: (name: string) => boolean;
}

/**
 * Calls `onChange` after changes directly in `path` until `ctx` is given up. The directory may be absent, be replaced or come later.
 * Does not keep the process alive. `onChange` is not called for the state at the start.
 */
export function watchDirectory(ctx: Ctx, path: string, onChange: () => void, options: WatchOptions = {}): void {
  const { debounceMs = 100, rescanMs = 20_000, only } = options;
  let watcher: FSWatcher | undefined;
  let pending: NodeJS.Timeout | undefined;
  const changed = (): void => {
    pending ??= setTimeout(() => {
      pending = undefined;
      onChange();
    }, debounceMs).unref();
  };
  const forget = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  const listen = (): void => {
    if (watcher !== undefined) return;
    try {
      watcher = watch(path, { persistent: false }, (event, name) => {
        if (name === null || only === undefined || only(name)) changed();
        // The directory itself was moved or removed: its inode is no longer the one at `path`.
        if (event === 'rename' && name !== null && path.endsWith(`/${name}`)) forget();
      });
      watcher.on('error', forget);
    } catch {
      // Absent (or no inotify watches left): the rescan finds it.
      watcher = undefined;
    }
  };
  listen();
  const rescan = setInterval(() => {
    forget();
    listen();
    changed();
  }, rescanMs).unref();
  ctx.signal.addEventListener(
    'abort',
    () => {
      clearInterval(rescan);
      clearTimeout(pending);
      forget();
    },
    { once: true },
  );
}
