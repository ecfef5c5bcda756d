/** The say that NRI plugins have in a container while it is made. */
import type { Ctx } from '#host/ctx.ts';
import type { Nri } from '../nri/nri.ts';
import { type CgroupDriver, ownCgroup } from '../oci/cgroup-path.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import { mergedResources } from '../spec/resources.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';

export interface AdjustDeps {
  readonly nri: Pick<Nri, 'createContainer'>;
  readonly containers: Pick<ContainerStore, 'update'>;
}

/** Its config.json with what plugins changed; what the record has to know is in it when this returns. Throws as Nri.createContainer. */
export async function adjustContainer(ctx: Ctx, deps: AdjustDeps, container: { record: ContainerRecord; spec: OciSpec; cgroupDriver: CgroupDriver }): Promise<OciSpec> {
  const { record, spec, cgroupDriver } = container;
  const { spec: adjusted, resources, cgroupsPath } = await deps.nri.createContainer(ctx, record, spec);
  if (resources === undefined && cgroupsPath === undefined) return adjusted;
  await deps.containers.update(record.id, {
    type: 'adjusted',
    resources: resources === undefined ? record.resources : mergedResources(record.resources, resources),
    cgroupPath: cgroupsPath === undefined ? record.cgroupPath : ownCgroup({ driver: cgroupDriver, cgroupsPath, id: record.id }),
  });
  return adjusted;
}
