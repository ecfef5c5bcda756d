/** The CRI's RuntimeService: messages in, messages out, no decisions. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import {
  type AttachRequest, AttachResponse, CheckpointContainerResponse, type ContainerConfig, type ContainerStats, ContainerStatsResponse, type ContainerStatus, ContainerStatusResponse, CreateContainerResponse, type ExecRequest, ExecResponse,
  ExecSyncResponse,
  type LinuxContainerResources, ListMetricDescriptorsResponse, type MetricDescriptor, type PodSandboxConfig, type PodSandboxStats, PodSandboxStatsResponse, type PodSandboxStatus, PodSandboxStatusResponse, type PortForwardRequest,
  PortForwardResponse, RemoveContainerResponse, RemovePodSandboxResponse,
  ReopenContainerLogResponse, RunPodSandboxResponse, type RuntimeConfigResponse, RuntimeServiceService, type RuntimeServiceServer, StartContainerResponse,
  type StatusResponse, StopContainerResponse, StopPodSandboxResponse, UpdateContainerResourcesResponse, type UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse,
  UpdateRuntimeConfigResponse, type VersionResponse,
} from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { unary } from './call.ts';
import { listMethods, type ListVerbs } from './list-methods.ts';
import { withRefusals } from './unimplemented.ts';

export interface RuntimeVerbs extends ListVerbs {
  version(): VersionResponse;
  status(isVerbose: boolean): StatusResponse;
  runtimeConfig(): RuntimeConfigResponse;
  setPodCidr(ctx: Ctx, cidr: string): Promise<void>;

  runPodSandbox(ctx: Ctx, request: { config: PodSandboxConfig | undefined; runtimeHandler: string }): Promise<string>;
  stopPodSandbox(ctx: Ctx, id: string): Promise<void>;
  removePodSandbox(ctx: Ctx, id: string): Promise<void>;
  updatePodSandboxResources(ctx: Ctx, request: UpdatePodSandboxResourcesRequest): Promise<void>;
  podSandboxStatus(id: string, isVerbose: boolean): { status: PodSandboxStatus; info: Record<string, string> };

  createContainer(ctx: Ctx, request: { podSandboxId: string; config: ContainerConfig | undefined }): Promise<string>;
  startContainer(ctx: Ctx, id: string): Promise<void>;
  stopContainer(ctx: Ctx, id: string, graceSeconds: number): Promise<void>;
  removeContainer(ctx: Ctx, id: string): Promise<void>;
  containerStatus(id: string, isVerbose: boolean): Promise<{ status: ContainerStatus; info: Record<string, string> }>;
  checkpointContainer(ctx: Ctx, request: { id: string; location: string; timeoutSeconds: number }): Promise<void>;
  updateContainerResources(ctx: Ctx, id: string, resources: LinuxContainerResources | undefined): Promise<void>;
  reopenContainerLog(ctx: Ctx, id: string): Promise<void>;
  execSync(ctx: Ctx, request: { id: string; command: readonly string[]; timeoutSeconds: number }): Promise<{ stdout: Uint8Array; stderr: Uint8Array; exitCode: number }>;

  /** The next three return a URL on which the client streams. */
  exec(request: ExecRequest): string;
  attach(request: AttachRequest): string;
  portForward(request: PortForwardRequest): string;

  containerStats(ctx: Ctx, id: string): Promise<ContainerStats>;
  podSandboxStats(ctx: Ctx, id: string): Promise<PodSandboxStats>;
  metricDescriptors(): MetricDescriptor[];
}

export function runtimeService(log: Logger, verbs: RuntimeVerbs): UntypedServiceImplementation {
  return withRefusals(RuntimeServiceService, { ...ownMethods(log, verbs), ...sandboxMethods(log, verbs), ...containerMethods(log, verbs), ...streamingMethods(log, verbs), ...statsMethods(log, verbs), ...listMethods(log, verbs) });
}

const ownMethods = (log: Logger, verbs: RuntimeVerbs): Partial<RuntimeServiceServer> => ({
  version: unary(log, 'Version', () => verbs.version()),
  status: unary(log, 'Status', (_ctx, request) => verbs.status(request.verbose)),
  runtimeConfig: unary(log, 'RuntimeConfig', () => verbs.runtimeConfig()),
  updateRuntimeConfig: unary(log, 'UpdateRuntimeConfig', async (ctx, request) => {
    const cidr = request.runtimeConfig?.networkConfig?.podCidr ?? '';
    // An empty one says nothing (CRI api.proto, NetworkConfig).
    if (cidr !== '') await verbs.setPodCidr(ctx, cidr);
    return UpdateRuntimeConfigResponse.create();
  }),
});

const sandboxMethods = (log: Logger, verbs: RuntimeVerbs): Partial<RuntimeServiceServer> => ({
  runPodSandbox: unary(log, 'RunPodSandbox', async (ctx, request) => RunPodSandboxResponse.create({ podSandboxId: await verbs.runPodSandbox(ctx, request) })),
  stopPodSandbox: unary(log, 'StopPodSandbox', async (ctx, request) => {
    await verbs.stopPodSandbox(ctx, request.podSandboxId);
    return StopPodSandboxResponse.create();
  }),
  removePodSandbox: unary(log, 'RemovePodSandbox', async (ctx, request) => {
    await verbs.removePodSandbox(ctx, request.podSandboxId);
    return RemovePodSandboxResponse.create();
  }),
  podSandboxStatus: unary(log, 'PodSandboxStatus', (_ctx, request) => PodSandboxStatusResponse.create(verbs.podSandboxStatus(request.podSandboxId, request.verbose))),
  updatePodSandboxResources: unary(log, 'UpdatePodSandboxResources', async (ctx, request) => {
    await verbs.updatePodSandboxResources(ctx, request);
    return UpdatePodSandboxResourcesResponse.create();
  }),
});

const containerMethods = (log: Logger, verbs: RuntimeVerbs): Partial<RuntimeServiceServer> => ({
  createContainer: unary(log, 'CreateContainer', async (ctx, request) =>
    CreateContainerResponse.create({ containerId: await verbs.createContainer(ctx, { podSandboxId: request.podSandboxId, config: request.config }) }),
  ),
  startContainer: unary(log, 'StartContainer', async (ctx, request) => {
    await verbs.startContainer(ctx, request.containerId);
    return StartContainerResponse.create();
  }),
  stopContainer: unary(log, 'StopContainer', async (ctx, request) => {
    await verbs.stopContainer(ctx, request.containerId, Number(request.timeout));
    return StopContainerResponse.create();
  }),
  removeContainer: unary(log, 'RemoveContainer', async (ctx, request) => {
    await verbs.removeContainer(ctx, request.containerId);
    return RemoveContainerResponse.create();
  }),
  containerStatus: unary(log, 'ContainerStatus', async (_ctx, request) =>
    ContainerStatusResponse.create(await verbs.containerStatus(request.containerId, request.verbose)),
  ),
  updateContainerResources: unary(log, 'UpdateContainerResources', async (ctx, request) => {
    await verbs.updateContainerResources(ctx, request.containerId, request.linux);
    return UpdateContainerResourcesResponse.create();
  }),
  checkpointContainer: unary(log, 'CheckpointContainer', async (ctx, { containerId: id, location, timeout }) => {
    await verbs.checkpointContainer(ctx, { id, location, timeoutSeconds: Number(timeout) });
    return CheckpointContainerResponse.create();
  }),
  reopenContainerLog: unary(log, 'ReopenContainerLog', async (ctx, request) => {
    await verbs.reopenContainerLog(ctx, request.containerId);
    return ReopenContainerLogResponse.create();
  }),
  execSync: unary(log, 'ExecSync', async (ctx, request) =>
    ExecSyncResponse.create(await verbs.execSync(ctx, { id: request.containerId, command: request.cmd, timeoutSeconds: Number(request.timeout) })),
  ),
});

const streamingMethods = (log: Logger, verbs: RuntimeVerbs): Partial<RuntimeServiceServer> => ({
  exec: unary(log, 'Exec', (_ctx, request) => ExecResponse.create({ url: verbs.exec(request) })),
  attach: unary(log, 'Attach', (_ctx, request) => AttachResponse.create({ url: verbs.attach(request) })),
  portForward: unary(log, 'PortForward', (_ctx, request) => PortForwardResponse.create({ url: verbs.portForward(request) })),
});

const statsMethods = (log: Logger, verbs: RuntimeVerbs): Partial<RuntimeServiceServer> => ({
  containerStats: unary(log, 'ContainerStats', async (ctx, request) => ContainerStatsResponse.create({ stats: await verbs.containerStats(ctx, request.containerId) })),
  podSandboxStats: unary(log, 'PodSandboxStats', async (ctx, request) => PodSandboxStatsResponse.create({ stats: await verbs.podSandboxStats(ctx, request.podSandboxId) })),
  listMetricDescriptors: unary(log, 'ListMetricDescriptors', () => ListMetricDescriptorsResponse.create({ descriptors: verbs.metricDescriptors() })),
});
