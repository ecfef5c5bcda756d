/** Every list of the RuntimeService and its stream. */
import type { ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import {
  type Container, type ContainerEventResponse, type ContainerFilter, type ContainerStats, type ContainerStatsFilter, type Encoded, type Image, ImageServiceService, type PodSandbox,
  type PodSandboxFilter, type PodSandboxMetrics, type PodSandboxStats, type PodSandboxStatsFilter, RuntimeServiceService, type RuntimeServiceServer,
} from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { serverStream } from './call.ts';
import { type Items, type List, listOf, streamOf, withEncoded } from './encoded-lists.ts';

export interface ListVerbs {
  listPodSandbox(filter: PodSandboxFilter | undefined): Items<PodSandbox>;
  listContainers(filter: ContainerFilter | undefined): Items<Container>;
  listContainerStats(ctx: Ctx, filter: ContainerStatsFilter | undefined): Items<ContainerStats>;
  listPodSandboxStats(ctx: Ctx, filter: PodSandboxStatsFilter | undefined): Items<PodSandboxStats>;
  listPodSandboxMetrics(ctx: Ctx): Promise<Items<PodSandboxMetrics>>;
  /** What happens from now on, until the caller goes. */
  containerEvents(ctx: Ctx): AsyncIterable<Encoded<ContainerEventResponse>>;
}

interface Filtered<Filter> { readonly filter: Filter | undefined }

export function listMethods(log: Logger, verbs: ListVerbs): Readonly<Record<string, UntypedHandleCall>> {
  const sandboxes: List<Filtered<PodSandboxFilter>, PodSandbox> = (_ctx, { filter }) => verbs.listPodSandbox(filter);
  const containers: List<Filtered<ContainerFilter>, Container> = (_ctx, { filter }) => verbs.listContainers(filter);
  const containerStats: List<Filtered<ContainerStatsFilter>, ContainerStats> = (ctx, { filter }) => verbs.listContainerStats(ctx, filter);
  const sandboxStats: List<Filtered<PodSandboxStatsFilter>, PodSandboxStats> = (ctx, { filter }) => verbs.listPodSandboxStats(ctx, filter);
  const metrics: List<unknown, PodSandboxMetrics> = (ctx) => verbs.listPodSandboxMetrics(ctx);
  return {
    listPodSandbox: listOf(log, 'ListPodSandbox', sandboxes),
    streamPodSandboxes: streamOf(log, 'StreamPodSandboxes', sandboxes),
    listContainers: listOf(log, 'ListContainers', containers),
    streamContainers: streamOf(log, 'StreamContainers', containers),
    listContainerStats: listOf(log, 'ListContainerStats', containerStats),
    streamContainerStats: streamOf(log, 'StreamContainerStats', containerStats),
    listPodSandboxStats: listOf(log, 'ListPodSandboxStats', sandboxStats),
    streamPodSandboxStats: streamOf(log, 'StreamPodSandboxStats', sandboxStats),
    listPodSandboxMetrics: listOf(log, 'ListPodSandboxMetrics', metrics),
    streamPodSandboxMetrics: streamOf(log, 'StreamPodSandboxMetrics', metrics),
    getContainerEvents: serverStream(log, 'GetContainerEvents', (ctx) => verbs.containerEvents(ctx)),
  } satisfies Partial<Record<keyof RuntimeServiceServer, unknown>> as Readonly<Record<string, UntypedHandleCall>>;
}

interface ImageRequest { readonly filter?: { readonly image?: { readonly image: string } | undefined } | undefined }

/** `list` answers all images, or those that the reference names. */
export function imageListMethods(log: Logger, list: (ref: string) => Items<Image>): Readonly<Record<string, UntypedHandleCall>> {
  const images: List<ImageRequest, Image> = (_ctx, { filter }) => list(filter?.image?.image ?? '');
  return { listImages: listOf(log, 'ListImages', images), streamImages: streamOf(log, 'StreamImages', images) } as unknown as Readonly<Record<string, UntypedHandleCall>>;
}

/** The services of the CRI as these methods serve them. */
export const runtimeDefinition = withEncoded(RuntimeServiceService as unknown as ServiceDefinition, {
  lists: [
    'listPodSandbox', 'streamPodSandboxes', 'listContainers', 'streamContainers', 'listContainerStats', 'streamContainerStats', 'listPodSandboxStats', 'streamPodSandboxStats',
    'listPodSandboxMetrics', 'streamPodSandboxMetrics',
  ],
  whole: ['getContainerEvents'],
});
export const imageDefinition = withEncoded(ImageServiceService as unknown as ServiceDefinition, { lists: ['listImages', 'streamImages'], whole: [] });
