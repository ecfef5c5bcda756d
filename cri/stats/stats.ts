/** ContainerStats, PodSandboxStats and their lists. */
import {
  ContainerStats, type ContainerStatsFilter, type Encoded, encoded, type LinuxPodSandboxStats, PodSandboxStats, type PodSandboxStatsFilter,
} from '#cri-api';
import type { Cgroups } from '#host/cgroup-types.ts';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import { hasLabels } from '../state/labels.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import type { CpuRates } from './cpu-rates.ts';
import type { DiskUsage } from './disk-usage.ts';
import { cpuMessage, type GroupNumbers, ioMessage, known, memoryMessage, networkMessage, sumOf, swapMessage } from './messages.ts';
import { interfacesOf } from './network.ts';

export interface StatsDeps {
  readonly containers: Pick<ContainerStore, 'get' | 'list'>;
  readonly sandboxes: Pick<SandboxStore, 'get' | 'list'>;
  readonly cgroups: Pick<Cgroups, 'usage' | 'members'>;
  readonly rates: CpuRates;
  readonly disk: DiskUsage;
  /** Where the writable layers lie. */
  readonly containersDir: string;
  /** The group of a pod in cgroupfs notation, '' when it has none of its own. */
  readonly podCgroup: (sandbox: SandboxRecord) => string;
}

/** Fault not-found for an unknown container. One that does not run has no cpu and memory figures. */
export const containerStats = (ctx: Ctx, deps: StatsDeps, id: string): Promise<ContainerStats> => statsOf(ctx, deps, deps.containers.get(id));

/** Of the running containers that the filter fits; each is measured when it is called for. */
export function listContainerStats(ctx: Ctx, deps: StatsDeps, filter: ContainerStatsFilter | undefined): (() => Promise<Encoded<ContainerStats>>)[] {
  const wanted = deps.containers.list().filter(
    (record) =>
      record.state.name === 'running' &&
      (filter === undefined ||
        (record.id.startsWith(filter.id) && record.sandboxId.startsWith(filter.podSandboxId) && hasLabels(record.config.labels, filter.labelSelector))),
  );
  return wanted.map((record) => async () => encoded(ContainerStats, await statsOf(ctx, deps, record)));
}

async function statsOf(ctx: Ctx, deps: StatsDeps, record: ContainerRecord): Promise<ContainerStats> {
  const { id, config } = record;
  const [usage, numbers] = await Promise.all([
    deps.disk.of(ctx, record.bundleDir),
    record.state.name === 'running' ? readGroup(deps, record.cgroupPath) : undefined,
  ]);
  const timestamp = nowNs();
  return {
    attributes: { id, metadata: config.metadata, labels: config.labels, annotations: config.annotations },
    cpu: numbers && cpuMessage(numbers, timestamp),
    memory: numbers && memoryMessage(numbers, timestamp),
    swap: numbers && swapMessage(numbers, timestamp),
    io: numbers && ioMessage(numbers, timestamp),
    writableLayer: { timestamp, fsId: { mountpoint: deps.containersDir }, usedBytes: known(usage.usedBytes), inodesUsed: known(usage.inodes) },
  };
}

async function readGroup(deps: StatsDeps, path: string): Promise<GroupNumbers> {
  const usage = await deps.cgroups.usage(path);
  return { ...usage, nanoCores: usage.cpu && deps.rates.nanoCores(path, { usageNs: usage.cpu.usageNs, atNs: nowNs() }) };
}

/** Fault not-found for an unknown sandbox. */
export const podSandboxStats = (ctx: Ctx, deps: StatsDeps, id: string): Promise<PodSandboxStats> => podStatsOf(ctx, deps, deps.sandboxes.get(id));

/** Of the ready sandboxes that the filter fits; each is measured when it is called for. */
export function listPodSandboxStats(ctx: Ctx, deps: StatsDeps, filter: PodSandboxStatsFilter | undefined): (() => Promise<Encoded<PodSandboxStats>>)[] {
  const wanted = deps.sandboxes
    .list()
    .filter((record) => record.state.name === 'ready' && (filter === undefined || (record.id.startsWith(filter.id) && hasLabels(record.config.labels, filter.labelSelector))));
  return wanted.map((record) => async () => encoded(PodSandboxStats, await podStatsOf(ctx, deps, record)));
}

async function podStatsOf(ctx: Ctx, deps: StatsDeps, record: SandboxRecord): Promise<PodSandboxStats> {
  const { id, config } = record;
  return {
    attributes: { id, metadata: config.metadata, labels: config.labels, annotations: config.annotations },
    linux: await linuxPodStats(ctx, deps, record),
    windows: undefined,
  };
}

async function linuxPodStats(ctx: Ctx, deps: StatsDeps, record: SandboxRecord): Promise<LinuxPodSandboxStats> {
  const running = deps.containers.list().filter(({ sandboxId, state }) => sandboxId === record.id && state.name === 'running');
  const [containers, numbers, processes, interfaces] = await Promise.all([
    Promise.all(running.map((container) => statsOf(ctx, deps, container))),
    readPod(deps, record, running),
    Promise.all(running.map(({ cgroupPath }) => deps.cgroups.members(cgroupPath))),
    interfacesOf(record),
  ]);
  const timestamp = nowNs();
  return {
    cpu: cpuMessage(numbers, timestamp),
    memory: memoryMessage(numbers, timestamp),
    io: ioMessage(numbers, timestamp),
    process: { timestamp, processCount: known(processes.flat().length + (record.init === undefined ? 0 : 1)) },
    network: networkMessage(interfaces, timestamp),
    containers,
  };
}

/** The pod's own group; without one, which only people at a prompt make, the sum of its containers. */
async function readPod(deps: StatsDeps, sandbox: SandboxRecord, running: readonly ContainerRecord[]): Promise<GroupNumbers> {
  const group = deps.podCgroup(sandbox);
  if (group !== '') return readGroup(deps, group);
  const sum = sumOf(await Promise.all(running.map(({ cgroupPath }) => deps.cgroups.usage(cgroupPath))));
  return { ...sum, nanoCores: sum.cpu && deps.rates.nanoCores(sandbox.id, { usageNs: sum.cpu.usageNs, atNs: nowNs() }) };
}
