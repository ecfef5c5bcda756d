/** ContainerStatus: a record → the CRI message, and what operators look for with `crictl inspect`. */
import { join } from 'node:path';
import { ImageSpec, type ContainerStatus, type Mount } from '#cri-api';
import { readIfThere } from '#host/read-if-there.ts';
import { criSignal } from '../spec/signals.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import { stringifyInfo } from '../state/record-json.ts';
import { criState, type RepoDigestOf } from './list.ts';

/** `image_id` is what PullImage returned; `image_ref` the digest the image came by, which users know, while the store knows it. */
export function containerStatus(record: ContainerRecord, repoDigestOf: RepoDigestOf): ContainerStatus {
  const { config, state } = record;
  const ended = state.name === 'exited' ? state : undefined;
  return {
    id: record.id,
    metadata: config.metadata,
    state: criState(record),
    createdAt: state.createdAtNs,
    startedAt: state.name === 'running' || state.name === 'exited' ? state.startedAtNs : 0n,
    finishedAt: ended?.finishedAtNs ?? 0n,
    exitCode: ended?.exitCode ?? 0,
    image: { ...(config.image ?? ImageSpec.create()), image: record.image.ref },
    imageRef: repoDigestOf(record.image.id) ?? record.image.id,
    imageId: record.image.id,
    reason: ended?.reason ?? '',
    message: ended?.message ?? '',
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map((mount, index) => withImageRef(mount, record.imageVolumes?.find(({ mountIndex }) => mountIndex === index)?.imageId)),
    logPath: record.logPath ?? '',
    resources: record.resources === undefined ? undefined : { linux: record.resources, windows: undefined },
    user:
      record.user === undefined
        ? undefined
        : { linux: { uid: BigInt(record.user.uid), gid: BigInt(record.user.gid), supplementalGroups: record.user.supplementalGroups.map(BigInt) } },
    stopSignal: criSignal(record.stopSignal),
  };
}

/** As asked for; an image volume also says which image it is (CRI api.proto ImageSpec.image_ref). */
const withImageRef = (mount: Mount, imageId: string | undefined): Mount =>
  imageId === undefined || mount.image === undefined ? mount : { ...mount, image: { ...mount.image, imageRef: imageId } };

/** Keys as containerd's, where it has them. */
export async function containerInfo(record: ContainerRecord): Promise<Record<string, string>> {
  return {
    info: stringifyInfo({
      sandboxID: record.sandboxId,
      pid: record.state.name === 'created' || record.state.name === 'running' ? (record.process?.pid ?? 0) : 0,
      removing: false,
      snapshotKey: record.id,
      snapshotter: 'overlayfs',
      runtimeType: record.runtimeHandler,
      bundle: record.bundleDir,
      cgroupPath: record.cgroupPath,
      monitor: record.monitor?.pid,
      config: record.config,
      runtimeSpec: await runtimeSpec(record.bundleDir),
    }),
  };
}

async function runtimeSpec(bundleDir: string): Promise<unknown> {
  const text = await readIfThere(join(bundleDir, 'config.json'));
  return text === undefined ? undefined : JSON.parse(text);
}
