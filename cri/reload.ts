/** What a running CRI server takes over from a changed configuration. Containers are never touched. */
import type { LiveKey } from '#host/config/key.ts';
import { type Ctx } from '#host/ctx.ts';
import type { CriConfig, criKeys } from './config.ts';
import { pinnedNames } from './image/store.ts';
import type { CriParts } from './parts.ts';
import type { Streaming } from './streaming/server.ts';

type ReloadableParts = Pick<CriParts, 'runtimes' | 'probeRuntimes' | 'cni' | 'images'> & { readonly streaming: Pick<Streaming, 'setIdleTimeout'> };

/** Finds out whether the new values can be used (Fault when not), and returns what puts them to use, which cannot fail. */
type Taker = (ctx: Ctx, parts: ReloadableParts, config: CriConfig) => Promise<() => void>;

const takeRuntimes: Taker = async (ctx, parts, { runtimes, defaultRuntime }) => {
  const working = await parts.probeRuntimes(ctx, runtimes);
  return () => parts.runtimes.replace(working, defaultRuntime);
};

const takeCni: Taker = async (_ctx, parts, { cni: { confDir, binDirs } }) => () => parts.cni.reconfigure({ confDir, binDirs });

const takePinned: Taker = async (_ctx, parts, { images: { pinned } }) => {
  const names = pinnedNames(pinned);
  return () => parts.images.pin(names);
};

const takePullLimits: Taker = async (_ctx, { images }, config) => () => images.setLimits(config.images);

const takeIdleTimeout: Taker = async (_ctx, { streaming }, config) => () => streaming.setIdleTimeout(config.streaming.idleTimeoutMs);

/** Every live key of the table has its place here, or it does not compile. */
const takers: { readonly [Name in LiveKey<typeof criKeys>]: Taker } = {
  runtimes: takeRuntimes,
  defaultRuntime: takeRuntimes,
  'cni.confDir': takeCni,
  'cni.binDirs': takeCni,
  'images.pinned': takePinned,
  'images.parallelDownloads': takePullLimits,
  'images.connectionsPerBlob': takePullLimits,
  'images.connectionsPerRegistry': takePullLimits,
  'images.progressTimeout': takePullLimits,
  'images.credentialsFile': takePullLimits,
  'streaming.idleTimeout': takeIdleTimeout,
};

/** `changed` are dotted names below `cri`. All or nothing: a Fault says what cannot be used, and then everything stays as it was. */
export async function reload(ctx: Ctx, parts: ReloadableParts, { config, changed }: { config: CriConfig; changed: readonly string[] }): Promise<void> {
  const wanted = new Set(Object.entries(takers).flatMap(([name, take]) => (changed.includes(name) ? [take] : [])));
  const ready = await Promise.all([...wanted].map((take) => take(ctx, parts, config)));
  for (const use of ready) use();
}
