/**
 * The one way in which a sandbox's resources go: used by a creation that failed, by StopPodSandbox, by RemovePodSandbox and at start-up.
 * Walks the record's list backwards; what is gone already counts as done, so it may run twice and after a kill. The list itself stays as it is.
 */
import { basename } from 'node:path';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { endMarkedPrograms } from '#host/marked-programs.ts';
import { unmount } from '#host/mount.ts';
import { unpinNamespaces } from '#host/namespaces.ts';
import { removeTree } from '#host/remove-tree.ts';
import { cgroupInBundle } from '../oci/bundle.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { SandboxId } from '../state/ids.ts';
import type { OwnedResource } from '../state/owned-resource.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import { initBundleDir } from './init.ts';

export interface TeardownDeps {
  readonly sandboxes: Pick<SandboxStore, 'find'>;
  readonly cgroups: Pick<Cgroups, 'remove'>;
  readonly network: { detach(ctx: Ctx, sandbox: SandboxRecord): Promise<void> };
  readonly stopInit: (ctx: Ctx, sandbox: SandboxRecord, handler: string) => Promise<void>;
}

/** Throws at the first thing that cannot be undone; the next call goes on from there. */
export async function teardownSandbox(ctx: Ctx, deps: TeardownDeps, id: SandboxId): Promise<void> {
  const record = deps.sandboxes.find(id);
  if (record === undefined) return;
  let isDetached = true;
  for (const resource of record.owns.toReversed()) {
    try {
      // What the plugins could not undo they may yet, but only while the namespace is there: the collection unpins it then (collect-networks.ts).
      if (resource.kind === 'network') isDetached = await detach(ctx, deps, record);
      else if (resource.kind !== 'namespaces' || isDetached) await undo(ctx, deps, record, resource);
    } catch (cause) {
      throw new Fault('internal', `sandbox ${id}: cannot remove its ${resource.kind}`, cause);
    }
  }
}

async function undo(ctx: Ctx, deps: TeardownDeps, record: SandboxRecord, resource: OwnedResource): Promise<void> {
  switch (resource.kind) {
    case 'oci':
      return deps.stopInit(ctx, record, resource.handler);
    case 'namespaces':
      return unpinNamespaces(resource.dir);
    case 'mount':
      return unmount(resource.target, { lazy: true });
    case 'cgroup':
      return deps.cgroups.remove(ctx, resource.path);
    case 'network':
    case 'rootfs':
      throw new Fault('internal', `a sandbox does not own a ${resource.kind}`);
    default:
      return resource satisfies never;
  }
}

/**
 * A plugin that fails for ever must not keep the pod: the failure is logged and the attachment left in CNI's cache, where garbage
 * collection finds it.
 */
async function detach(ctx: Ctx, deps: TeardownDeps, record: SandboxRecord): Promise<boolean> {
  try {
    await deps.network.detach(ctx, record);
    return true;
  } catch (error) {
    ctx.log.warn({ err: error, sandbox: record.id }, 'network not detached; its address is collected later');
    return false;
  }
}

export interface OrphanDeps {
  readonly runtimes: () => readonly Pick<OciRuntime, 'name'>[];
  readonly cgroups: Pick<Cgroups, 'kill' | 'remove'>;
  readonly forget: (ctx: Ctx, container: { id: string; handler: string }) => Promise<void>;
}

/** A sandbox's directory without a readable record: its init and its mounts go here, its pins and its attachment are found by their own. May run twice. */
export async function removeOrphanSandbox(ctx: Ctx, deps: OrphanDeps, dir: string): Promise<void> {
  const id = basename(dir);
  await endMarkedPrograms(ctx, id);
  const cgroupPath = await cgroupInBundle(initBundleDir(dir), id);
  if (cgroupPath !== undefined) {
    await deps.cgroups.kill(ctx, cgroupPath);
    await deps.cgroups.remove(ctx, cgroupPath);
  }
  for (const { name } of deps.runtimes()) await deps.forget(ctx, { id, handler: name });
  await removeTree(dir);
}
