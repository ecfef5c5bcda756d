/** Volumes of a pod with a user namespace, for OCI runtimes that cannot map ids themselves (runc before 1.2, crun before 1.9): mapped by us. */
import { closeSync, openSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mount } from '#cri-api';
import { Fault } from '#host/fault.ts';
import { idmappedBind } from '#host/idmapped-mount.ts';
import type { UserNamespace } from '../snapshot/overlay.ts';
import { criMappings, ociMappings } from '../spec/user-namespace.ts';
import { ownMountsDir } from './image-volumes.ts';

export interface MapVolumeRequest {
  readonly bundleDir: string;
  readonly mountIndex: number;
  readonly mount: Mount;
  /** Real path on the host. */
  readonly source: string;
  readonly userNamespace: UserNamespace | undefined;
}

/** Returns where `source` is to be had with mapped ids. Fault 'invalid' for other mappings than the pod's. Teardown unmounts it with the image volumes. */
export async function mapVolume(request: MapVolumeRequest): Promise<string> {
  const { bundleDir, mountIndex, mount, source, userNamespace } = request;
  const { uids, gids } = userNamespace?.mappings ?? { uids: [], gids: [] };
  const asked = JSON.stringify([criMappings(mount.uidMappings), criMappings(mount.gidMappings)]);
  const isOther = asked !== JSON.stringify([ociMappings(uids), ociMappings(gids)]);
  if (userNamespace === undefined || isOther) throw new Fault('invalid', `mount ${mount.containerPath}: its mappings are not the pod's`);
  const dir = join(ownMountsDir(bundleDir), String(mountIndex));
  const target = join(dir, 'volume');
  await mkdir(dir, { recursive: true, mode: 0o711 });
  if ((await stat(source)).isDirectory()) await mkdir(target);
  else closeSync(openSync(target, 'w'));
  await idmappedBind({ source, target, userNamespace: userNamespace.path, recursive: true });
  return target;
}
