/** What the verbs tell NRI, and what comes back: the moments in the lives of pods and containers at which plugins have a say. */
import type { LinuxContainerResources } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';

/** A container's config.json with what plugins changed; `resources` and `cgroupsPath` as changed, undefined when they were not. */
export interface AdjustedContainer {
  readonly spec: OciSpec;
  readonly resources: LinuxContainerResources | undefined;
  readonly cgroupsPath: string | undefined;
}

/**
 * A plugin is told first and the deed follows, so every method is awaited before it; the `post` ones after it. Those that can throw (a Fault that names
 * the plugin) say so: the request fails with it.
 */
export interface Nri {
  /**
   * From before a moment until its deed is in the record: until it is disposed no plugin is shown the state, for it would see neither the moment nor
   * the deed. Not to be held twice by one verb.
   */
  enter(): Promise<Disposable>;
  /** Throws; the plugins that were told have been told of its end then. */
  runPodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void>;
  /** Throws. */
  updatePodSandbox(ctx: Ctx, pod: SandboxRecord, wanted: { overhead: LinuxContainerResources | undefined; resources: LinuxContainerResources | undefined }): Promise<void>;
  postUpdatePodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void>;
  stopPodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void>;
  removePodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void>;
  /** Throws. Whether it does or not: `postCreateContainer` when the container is made, `undoCreateContainer` when it is not. */
  createContainer(ctx: Ctx, container: ContainerRecord, spec: OciSpec): Promise<AdjustedContainer>;
  postCreateContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  /** Of a container that was never announced: does nothing. */
  undoCreateContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  /** Throws. */
  startContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  postStartContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  /** Throws. Returns what is to be set. */
  updateContainer(ctx: Ctx, container: ContainerRecord, resources: LinuxContainerResources): Promise<LinuxContainerResources>;
  postUpdateContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  /** After its end, however it came. */
  stopContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
  removeContainer(ctx: Ctx, container: ContainerRecord): Promise<void>;
}

const nothing = (): Promise<void> => Promise.resolve();
const open: Disposable = { [Symbol.dispose]: () => undefined };

/** Where NRI is switched off. */
export const noNri: Nri = {
  enter: () => Promise.resolve(open),
  runPodSandbox: nothing,
  updatePodSandbox: nothing,
  postUpdatePodSandbox: nothing,
  stopPodSandbox: nothing,
  removePodSandbox: nothing,
  createContainer: (_ctx, _container, spec) => Promise.resolve({ spec, resources: undefined, cgroupsPath: undefined }),
  postCreateContainer: nothing,
  undoCreateContainer: nothing,
  startContainer: nothing,
  postStartContainer: nothing,
  updateContainer: (_ctx, _container, resources) => Promise.resolve(resources),
  postUpdateContainer: nothing,
  stopContainer: nothing,
  removeContainer: nothing,
};
