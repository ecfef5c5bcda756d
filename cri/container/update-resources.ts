/** UpdateContainerResources: limits of a live container, all of them or none (CRI api.proto: transactional). */
import type { LinuxContainerResources } from '#cri-api';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { Nri } from '../nri/nri.ts';
import { cgroupResources, mergedResources, type ResourceHost } from '../spec/resources.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';

export interface UpdateDeps {
  readonly containers: ContainerStore;
  readonly cgroups: Pick<Cgroups, 'apply'>;
  readonly host: ResourceHost;
  readonly lock: KeyedLock<ContainerId>;
}

export interface UpdateVerbDeps extends UpdateDeps {
  readonly nri: Pick<Nri, 'enter' | 'updateContainer' | 'postUpdateContainer'>;
}

/** As `applyResources`, when plugins have had their say. */
export async function updateContainerResources(ctx: Ctx, deps: UpdateVerbDeps, request: { id: string; resources: LinuxContainerResources | undefined }): Promise<void> {
  const record = deps.containers.get(request.id);
  if (request.resources === undefined) return;
  using _ = await deps.nri.enter();
  const resources = await deps.nri.updateContainer(ctx, record, request.resources);
  await deps.nri.postUpdateContainer(ctx, await applyResources(ctx, deps, { id: record.id, resources }));
}

/**
 * Zero and empty fields leave what is. When one limit cannot be set none is (see #host/cgroup-apply). A container that has ended is
 * left alone with Fault 'precondition'.
 */
export async function applyResources(_ctx: Ctx, deps: UpdateDeps, request: { id: string; resources: LinuxContainerResources }): Promise<ContainerRecord> {
  const { id } = deps.containers.get(request.id);
  using _ = await deps.lock.hold(id);
  const record = deps.containers.get(id);
  if (record.state.name !== 'running' && record.state.name !== 'created') throw new Fault('precondition', `container ${id} is ${record.state.name}`);
  const wanted = mergedResources(record.resources, request.resources);
  await deps.cgroups.apply(record.cgroupPath, cgroupResources(wanted, deps.host));
  return deps.containers.update(id, { type: 'resources-updated', resources: wanted });
}
