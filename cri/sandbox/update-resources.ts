/** UpdatePodSandboxResources: the kubelet has resized the pod's own group; what is left to do is to tell plugins and to remember (CRI api.proto: best effort). */
import type { UpdatePodSandboxResourcesRequest } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { Nri } from '../nri/nri.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface UpdateDeps {
  readonly sandboxes: Pick<SandboxStore, 'get' | 'update'>;
  readonly nri: Pick<Nri, 'enter' | 'updatePodSandbox' | 'postUpdatePodSandbox'>;
}

/** Fault 'not-found', 'precondition' when it is not ready, or what a plugin objects; nothing has changed then. */
export async function updatePodSandboxResources(ctx: Ctx, deps: UpdateDeps, request: UpdatePodSandboxResourcesRequest): Promise<void> {
  const record = deps.sandboxes.get(request.podSandboxId);
  if (record.state.name !== 'ready') throw new Fault('precondition', `sandbox ${record.id} is not ready`);
  const { overhead, resources } = request;
  using _ = await deps.nri.enter();
  await deps.nri.updatePodSandbox(ctx, record, { overhead, resources });
  await deps.nri.postUpdatePodSandbox(ctx, await deps.sandboxes.update(record.id, { type: 'resources-updated', overhead, resources }));
}
