/**
 * The one way in which a sandbox's resources go: used by a creation that failed, by StopPodSandbox, by RemovePodSandbox and at start-up.
 * Walks the record's list backwards and shortens it as it goes; what is gone already counts as done, so it may run twice and after a kill.
 */
import type { Ctx } from '#host/ctx.ts';
import { withTimeout } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { unmount } from '#host/mount.ts';
import { unpinNamespaces } from '#host/namespaces.ts';
import type { SandboxId } from '../state/ids.ts';
import type { OwnedResource } from '../state/owned-resource.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface TeardownDeps {
  readonly sandboxes: SandboxStore;
  readonly network: { detach(ctx: Ctx, sandbox: SandboxRecord): Promise<void> };
  readonly stopInit: (ctx: Ctx, sandbox: SandboxRecord, handler: string) => Promise<void>;
}

/** CNI plugins may hang; the pod must go all the same. */
const detachTimeoutMs = 60_000;

/** Leaves the record with an empty list. Throws at the first thing that cannot be undone; what comes after it stays on the list. */
export async function teardownSandbox(ctx: Ctx, deps: TeardownDeps, id: SandboxId): Promise<void> {
  const record = deps.sandboxes.find(id);
  if (record === undefined) return;
  for (const resource of record.owns.toReversed()) {
    try {
      await undo(ctx, deps, record, resource);
    } catch (cause) {
      throw new Fault('internal', `sandbox ${id}: cannot remove its ${resource.kind}`, cause);
    }
    await deps.sandboxes.disown(id, resource);
  }
}

async function undo(ctx: Ctx, deps: TeardownDeps, record: SandboxRecord, resource: OwnedResource): Promise<void> {
  switch (resource.kind) {
    case 'oci':
      return deps.stopInit(ctx, record, resource.handler);
    case 'network':
      return detach(ctx, deps, record);
    case 'namespaces':
      return unpinNamespaces(resource.dir);
    case 'mount':
      return unmount(resource.target, { lazy: true });
    case 'rootfs':
    case 'cgroup':
      throw new Fault('internal', `a sandbox does not own a ${resource.kind}`);
    default:
      return resource satisfies never;
  }
}

/**
 * A plugin that fails for ever must not keep the pod: the failure is logged and the attachment left in CNI's cache, where garbage
 * collection finds it (Cni.gc); the interface itself ends with its namespace.
 */
async function detach(ctx: Ctx, deps: TeardownDeps, record: SandboxRecord): Promise<void> {
  try {
    await deps.network.detach(withTimeout(ctx, detachTimeoutMs), record);
  } catch (error) {
    ctx.log.warn({ err: error, sandbox: record.id }, 'network not detached; its address is collected later');
  }
}
