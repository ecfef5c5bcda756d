/** Image volumes: the images that a config's mounts name, each mounted read-only below the container's own directory. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mount } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { resolveInRoot } from '#host/safe-path.ts';

/** An image at the place of its mount in the config's list. */
export interface ImageVolume<Image> {
  readonly mountIndex: number;
  readonly image: Image;
}

/** The kubelet shows the pod this reason when a message begins with it (k8s.io/cri-api pkg/errors ErrImageVolumeMountFailed). */
const refusal = (mount: Mount, kind: Fault['kind'], why: string, cause?: unknown): Fault =>
  new Fault(kind, `ImageVolumeMountFailed: mount ${mount.containerPath}: ${why}`, cause);

/** Fault 'invalid' for a mount that asks for more than an image can give, 'not-found' for an image that is not here. */
export function imageVolumes<Image>(mounts: readonly Mount[], findImage: (ref: string) => Image | undefined): ImageVolume<Image>[] {
  return mounts.flatMap((mount, mountIndex) => {
    const ref = mount.image?.image ?? '';
    if (ref === '') {
      if (mount.imageSubPath !== '') throw new Fault('invalid', `mount ${mount.containerPath}: image_sub_path without an image`);
      return [];
    }
    if (!mount.readonly) throw refusal(mount, 'invalid', 'an image can only be mounted readonly');
    if (mount.hostPath !== '') throw refusal(mount, 'invalid', `host_path ${JSON.stringify(mount.hostPath)} beside an image`);
    const image = findImage(ref);
    if (image === undefined) throw refusal(mount, 'not-found', `image ${JSON.stringify(ref)} not found`);
    return [{ mountIndex, image }];
  });
}

export interface MountVolumeRequest<Image> {
  /** For messages: the container's id. */
  readonly id: string;
  readonly bundleDir: string;
  readonly volume: ImageVolume<Image>;
  readonly mount: Mount;
}

export type PrepareReadonly<Image> = (ctx: Ctx, request: { id: string; dir: string; image: Image; readonly: true }) => Promise<{ rootfs: string }>;

/** Where what a container's mounts need is mounted by us; teardown unmounts and removes all that is there. */
export const ownMountsDir = (bundleDir: string): string => join(bundleDir, 'mounts');

/** Returns the real path of the sub path, which cannot lead out of the image. Fault 'invalid' when there is no such path in it. */
export async function mountImageVolume<Image>(ctx: Ctx, prepare: PrepareReadonly<Image>, request: MountVolumeRequest<Image>): Promise<string> {
  const { id, bundleDir, volume, mount } = request;
  const dir = join(ownMountsDir(bundleDir), String(volume.mountIndex));
  await mkdir(dir, { recursive: true, mode: 0o711 });
  try {
    const { rootfs } = await prepare(ctx, { id, dir, image: volume.image, readonly: true });
    return await resolveInRoot(rootfs, mount.imageSubPath);
  } catch (cause) {
    const isAbsent = isErrno(cause, 'ENOENT', 'ENOTDIR', 'ELOOP');
    if (isAbsent) throw refusal(mount, 'invalid', `image_sub_path ${JSON.stringify(mount.imageSubPath)} does not exist in the image`);
    throw refusal(mount, cause instanceof Fault ? cause.kind : 'internal', 'cannot be mounted', cause);
  }
}
