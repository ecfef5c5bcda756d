/** volumeMounts → CRI mounts, given where the volumes are on the host. */
import { isAbsolute, join, normalize } from 'node:path';
import { Mount, MountPropagation } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { Container } from '../kube/types.ts';
import { expand, unknownNames } from './expand.ts';

export interface VolumePlace {
  readonly hostPath: string;
  /** The volume itself is read-only, whatever the mount says. */
  readonly readOnly?: boolean;
}

/** A file or directory of the host, as it is. */
export const hostMount = (place: { containerPath: string; hostPath: string; readonly?: boolean }): Mount => Mount.fromPartial(place);

/** A mount whose host path is still to be resolved inside the volume without following links out of it. */
export interface PlannedMount {
  readonly mount: Mount;
  readonly subPath?: { readonly volume: string; readonly volumePath: string; readonly path: string; readonly index: number };
}

const propagations: Readonly<Record<string, MountPropagation>> = {
  None: MountPropagation.PROPAGATION_PRIVATE,
  HostToContainer: MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  Bidirectional: MountPropagation.PROPAGATION_BIDIRECTIONAL,
};

/** Throws Fault('invalid') with the kubelet's words for a subPath that leaves the volume. */
export function volumeMounts(container: Container, volumes: ReadonlyMap<string, VolumePlace>, env: ReadonlyMap<string, string>): PlannedMount[] {
  return (container.volumeMounts ?? []).map((wanted, index) => {
    const volume = volumes.get(wanted.name);
    if (volume === undefined) throw new Fault('precondition', `mount cannot be satisfied for container ${JSON.stringify(container.name)}, because the volume ${JSON.stringify(wanted.name)} is missing`);
    const path = subPathOf(wanted, env);
    const readonly = wanted.readOnly === true || volume.readOnly === true;
    const mount = Mount.fromPartial({
      containerPath: isAbsolute(wanted.mountPath) ? wanted.mountPath : join('/', wanted.mountPath),
      hostPath: path === undefined ? volume.hostPath : join(volume.hostPath, path),
      readonly,
      recursiveReadOnly: readonly && wanted.recursiveReadOnly === 'Enabled',
      propagation: propagations[wanted.mountPropagation ?? 'None'] ?? MountPropagation.PROPAGATION_PRIVATE,
    });
    return path === undefined ? { mount } : { mount, subPath: { volume: wanted.name, volumePath: volume.hostPath, path, index } };
  });
}

function subPathOf(mount: { subPath?: string; subPathExpr?: string; name: string }, env: ReadonlyMap<string, string>): string | undefined {
  let path = mount.subPath ?? '';
  if (mount.subPathExpr !== undefined && mount.subPathExpr !== '') {
    const missing = unknownNames(mount.subPathExpr, env);
    if (missing.length > 0) throw new Fault('invalid', `missing value for ${missing.join(', ')} in subPathExpr of volume mount ${mount.name}`);
    path = expand(mount.subPathExpr, env);
  }
  if (path === '') return undefined;
  if (isAbsolute(path)) throw new Fault('invalid', `error SubPath ${JSON.stringify(path)} must not be an absolute path`);
  if (path.split('/').includes('..')) throw new Fault('invalid', `unable to provision SubPath ${JSON.stringify(path)}: must not contain '..'`);
  return normalize(path);
}
