/** ListPodSandboxMetrics: every number is read when it is asked for, but what a container has written, which is up to ten seconds old (DiskUsage). */
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { type ContainerMetrics, type Encoded, encoded, PodSandboxMetrics } from '#cri-api';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { fileSystemRoom, type FileSystemRoom } from '#host/disk.ts';
import { isErrno } from '#host/errno.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { containerMetrics, podMetrics } from './container-metrics.ts';
import type { MetricOwner } from './metric-families.ts';
import { interfacesOf } from './network.ts';
import { openDescriptors, openFilesLimit } from './process-numbers.ts';
import type { StatsDeps } from './stats.ts';

export type MetricsDeps = Pick<StatsDeps, 'containers' | 'sandboxes' | 'disk' | 'containersDir'> & {
  /** What the file system of `containersDir` is mounted from. */
  readonly containersDevice: string;
  readonly cgroups: Pick<Cgroups, 'usage' | 'details' | 'members'>;
};

/** The file system that containers write to. */
type Disk = FileSystemRoom & { readonly device: string };

/** Of the ready sandboxes and their running containers; each pod is measured when it is called for. */
export async function listPodSandboxMetrics(ctx: Ctx, deps: MetricsDeps): Promise<(() => Promise<Encoded<PodSandboxMetrics>>)[]> {
  const disk = { device: deps.containersDevice, ...(await fileSystemRoom(deps.containersDir)) };
  const running = Map.groupBy(deps.containers.list().filter(({ state }) => state.name === 'running'), ({ sandboxId }) => sandboxId);
  return deps.sandboxes
    .list()
    .filter(({ state }) => state.name === 'ready')
    .map((sandbox) => async () => encoded(PodSandboxMetrics, await metricsOfPod(ctx, deps, { sandbox, containers: running.get(sandbox.id) ?? [], disk })));
}

interface Pod {
  readonly sandbox: SandboxRecord;
  readonly containers: readonly ContainerRecord[];
  readonly disk: Disk;
}

async function metricsOfPod(ctx: Ctx, deps: MetricsDeps, { sandbox, containers, disk }: Pod): Promise<PodSandboxMetrics> {
  const owner: MetricOwner = { pod: sandbox.config.metadata?.name ?? '', namespace: sandbox.config.metadata?.namespace ?? '', container: '', id: sandbox.id, image: '' };
  const [interfaces, containerMetrics] = await Promise.all([interfacesOf(sandbox), Promise.all(containers.map((record) => metricsOf(ctx, deps, { record, pod: owner, disk })))]);
  return { podSandboxId: sandbox.id, metrics: podMetrics(owner, interfaces), containerMetrics };
}

async function metricsOf(ctx: Ctx, deps: MetricsDeps, { record, pod, disk }: { record: ContainerRecord; pod: MetricOwner; disk: Disk }): Promise<ContainerMetrics> {
  const { cgroups } = deps;
  const path = record.cgroupPath;
  const members = await cgroups.members(path);
  const [written, usage, details, open, filesLimit] = await Promise.all([
    deps.disk.of(ctx, record.bundleDir),
    cgroups.usage(path),
    cgroups.details(path),
    openDescriptors(members),
    record.process === undefined ? undefined : openFilesLimit(record.process.pid),
  ]);
  const owner = { ...pod, container: record.config.metadata?.name ?? '', id: record.id, image: record.image.ref };
  const metrics = containerMetrics(owner, {
    ...usage, ...details,
    startedAtNs: record.state.name === 'running' ? record.state.startedAtNs : 0n,
    nowNs: nowNs(), open,
    io: (details.io ?? []).map((each) => ({ ...each, name: deviceName(each.device) })),
    processes: members.length,
    openFilesLimit: filesLimit,
    resources: record.resources,
    disk: { ...disk, usedBytes: written.usedBytes },
  });
  return { containerId: record.id, metrics };
}

const deviceNames = new Map<string, string>();
/** `254:0` → `/dev/vda`; the numbers themselves for a device that is gone. */
function deviceName(device: string): string {
  let name = deviceNames.get(device);
  if (name === undefined) {
    try {
      name = `/dev/${basename(readlinkSync(`/sys/dev/block/${device}`))}`;
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      return device;
    }
    deviceNames.set(device, name);
  }
  return name;
}
