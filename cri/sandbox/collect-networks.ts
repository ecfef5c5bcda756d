/**
 * Garbage collection of networks: attachments that no sandbox stands for any more, because their plugins failed when they were to be undone or because
 * their record was lost, are undone now; then the namespaces that were kept for it go, too.
 */
import { join } from 'node:path';
import type { Cni } from '#cni';
import type { Ctx } from '#host/ctx.ts';
import { namesIn } from '#host/names-in.ts';
import { unpinNamespaces } from '#host/namespaces.ts';
import { asSandboxId } from '../state/ids.ts';
import type { CriPaths } from '../state/paths.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import { attachmentOf } from './network.ts';

export interface CollectDeps {
  readonly cni: Pick<Cni, 'gc' | 'attached'>;
  readonly sandboxes: Pick<SandboxStore, 'list' | 'find'>;
  readonly paths: Pick<CriPaths, 'stateDir' | 'namespacesDir'>;
}

/** What fails is logged, and tried again the next time. A sandbox that is being made has its attachment already. */
export async function collectNetworks(ctx: Ctx, deps: CollectDeps): Promise<void> {
  const { cni, sandboxes, paths } = deps;
  await cni.gc(ctx, () => sandboxes.list().filter(({ state }) => state.name !== 'not-ready').map(attachmentOf));
  const attached = await cni.attached(ctx);
  for (const id of await namesIn(join(paths.stateDir, 'ns'))) {
    if (sandboxes.find(id) === undefined && !attached.has(id)) unpinNamespaces(paths.namespacesDir(asSandboxId(id)));
  }
}
