/** Finds what belongs to no pod any more, and makes it go: runtime pods, directories, cgroups, logs; and dead containers of living pods. */
import { access, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain } from '#host/fault.ts';
import { namesIn } from '#host/names-in.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { RuntimePod } from '../cri/observed.ts';
import type { Runtime } from '../cri/runtime.ts';
import type { Pod } from '../kube/types.ts';
import type { AgentPaths } from '../paths.ts';
import { containerLeftovers } from './leftovers.ts';
import type { PodVolumes } from './pod-deps.ts';

export interface HousekeepingDeps {
  readonly runtime: Pick<Runtime, 'removeContainer' | 'removeSandbox' | 'stopSandbox' | 'observe'>;
  readonly volumes: Pick<PodVolumes, 'unmount'>;
  readonly groups: { list(): Promise<string[]>; removePod(ctx: Ctx, uid: string): Promise<void> } | undefined;
  readonly paths: AgentPaths;
  /** As of the last relist. */
  readonly runtimePods: () => ReadonlyMap<string, RuntimePod>;
  /** UIDs that have a worker: their things are not ours to touch. */
  readonly owned: () => ReadonlySet<string>;
  /** Every source has told its pods at least once; until then nothing is an orphan. */
  readonly sourcesSeen: () => boolean;
  /** Hands a runtime pod without a worker to one that ends it. */
  readonly adopt: (pod: Pod) => void;
}

const everyMs = 2000;
const garbageEveryMs = 60_000;

/** The grace of runtime pods that nobody knows is short: whoever wanted them is gone. */
export const orphanGraceSeconds = 1;

/** Until the context ends. A failure is logged once and tried again the next time. */
export async function keepHouse(ctx: Ctx, deps: HousekeepingDeps): Promise<void> {
  let lastGarbageMs = Number.NEGATIVE_INFINITY;
  let complaint = '';
  while (!ctx.signal.aborted) {
    try {
      if (deps.sourcesSeen()) {
        adoptOrphans(ctx, deps);
        await removeDirectories(ctx, deps);
        await removeGroups(ctx, deps);
        if (performance.now() - lastGarbageMs >= garbageEveryMs) {
          await removeDead(ctx, deps);
          await removeDanglingLinks(deps.paths.containerLogsDir);
          lastGarbageMs = performance.now();
        }
      }
      complaint = '';
    } catch (error) {
      const text = explain(error);
      if (text !== complaint && !ctx.signal.aborted) ctx.log.warn({ err: error }, 'housekeeping failed, trying again');
      complaint = text;
    }
    await sleep(everyMs, undefined, { signal: ctx.signal }).catch(() => undefined); // aborted: the loop ends
  }
}

/** A pod as much as the runtime knows of it: enough to end it. */
export const podOfRuntime = ({ uid, namespace, name }: RuntimePod): Pod => ({ metadata: { uid, namespace, name }, spec: { containers: [] } });

function adoptOrphans(ctx: Ctx, deps: HousekeepingDeps): void {
  const owned = deps.owned();
  for (const pod of deps.runtimePods().values()) {
    if (owned.has(pod.uid)) continue;
    ctx.log.info({ pod: `${pod.namespace}/${pod.name}`, uid: pod.uid }, 'a pod that nobody wants is removed');
    deps.adopt(podOfRuntime(pod));
  }
}

async function removeDirectories(ctx: Ctx, deps: HousekeepingDeps): Promise<void> {
  for (const uid of await namesIn(deps.paths.podsDir)) {
    if (isTaken(deps, uid)) continue;
    await deps.volumes.unmount(ctx, uid);
    await removeTree(deps.paths.podDir(uid));
  }
  for (const name of await namesIn(deps.paths.podLogsRoot)) {
    const uid = /^[^_]+_[^_]+_([^_]+)$/.exec(name)?.[1];
    if (uid !== undefined && !isTaken(deps, uid)) await rm(join(deps.paths.podLogsRoot, name), { recursive: true, force: true });
  }
}

async function removeGroups(ctx: Ctx, deps: HousekeepingDeps): Promise<void> {
  for (const uid of (await deps.groups?.list()) ?? []) if (!isTaken(deps, uid)) await deps.groups?.removePod(ctx, uid);
}

/** Asked anew before each removal: a worker may have come in the meantime. */
const isTaken = (deps: HousekeepingDeps, uid: string): boolean => deps.owned().has(uid) || deps.runtimePods().has(uid);

/** Of living pods: every container's newest instance and the dead one before it stay, and the newest sandbox. */
async function removeDead(ctx: Ctx, deps: HousekeepingDeps): Promise<void> {
  for (const uid of deps.owned()) {
    const pod = deps.runtimePods().get(uid);
    if (pod === undefined || containerLeftovers(pod).containers.length + containerLeftovers(pod).sandboxes.length === 0) continue;
    const observed = await deps.runtime.observe(ctx, uid);
    for (const id of containerLeftovers(pod).containers) {
      const log = observed.containers.find((container) => container.id === id)?.logPath;
      await deps.runtime.removeContainer(ctx, id);
      if (log !== undefined && log !== '') await rm(log, { force: true });
    }
    for (const id of containerLeftovers(pod).sandboxes) {
      await deps.runtime.stopSandbox(ctx, id);
      await deps.runtime.removeSandbox(ctx, id);
    }
  }
}

async function removeDanglingLinks(dir: string): Promise<void> {
  for (const name of await namesIn(dir)) {
    const link = join(dir, name);
    const dangles = name.endsWith('.log') && (await access(link).then(() => false, (error: unknown) => isErrno(error, 'ENOENT')));
    if (dangles) await unlink(link).catch(() => undefined); // somebody else was faster
  }
}
