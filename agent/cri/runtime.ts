/** The container runtime as the agent uses it. Every call is bounded in time (pulls only by their context) and fails with a Fault. */
import type {
  ContainerConfig, CriClient, ExecRequest, Image, ImageFsInfoResponse, ImageSpec,
  ExecSyncResponse, LinuxContainerResources, PodSandboxConfig, StatusResponse, VersionResponse,
} from '#cri-api';
import { AuthConfig, CgroupDriver, connectCri, ImageSpec as ImageSpecs } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault, isFault } from '#host/fault.ts';
import { callCri, type Unary } from './call.ts';
import { podUidLabel } from './labels.ts';
import { groupByPod, observedContainer, observedSandbox, orderedPod, type ObservedContainer, type ObservedPod, type RuntimePod } from './observed.ts';

/** StopContainer may take its grace period and then some: the runtime answers when the container is gone. */
const stopMarginMs = 120_000;

export class Runtime {
  readonly #client: CriClient;
  readonly #timeoutMs: number;
  #name = 'unknown';

  constructor(client: CriClient, options: { timeoutMs: number }) {
    this.#client = client;
    this.#timeoutMs = options.timeoutMs;
  }

  /** `containerd`, `nodelet`…: the scheme of container ids in the API. Known after `version` was called once. */
  get name(): string {
    return this.#name;
  }

  async version(ctx: Ctx): Promise<VersionResponse> {
    const version = await this.#runtime(ctx, this.#client.runtime.version, { version: 'v1' });
    this.#name = version.runtimeName;
    return version;
  }

  status(ctx: Ctx): Promise<StatusResponse> {
    return this.#runtime(ctx, this.#client.runtime.status, { verbose: false });
  }

  /** Undefined when the runtime is too old to say. */
  async cgroupDriver(ctx: Ctx): Promise<'systemd' | 'cgroupfs' | undefined> {
    try {
      const driver = (await this.#runtime(ctx, this.#client.runtime.runtimeConfig, {})).linux?.cgroupDriver;
      return driver === undefined ? undefined : driver === CgroupDriver.SYSTEMD ? 'systemd' : 'cgroupfs';
    } catch (error) {
      if (isFault(error, 'unimplemented')) return undefined;
      throw error;
    }
  }

  async setPodCidr(ctx: Ctx, podCidr: string): Promise<void> {
    await this.#runtime(ctx, this.#client.runtime.updateRuntimeConfig, { runtimeConfig: { networkConfig: { podCidr } } });
  }

  /** Every pod the runtime has something of, running or not. */
  async listPods(ctx: Ctx): Promise<Map<string, RuntimePod>> {
    const [sandboxes, containers] = await Promise.all([
      this.#runtime(ctx, this.#client.runtime.listPodSandbox, { filter: undefined }),
      this.#runtime(ctx, this.#client.runtime.listContainers, { filter: undefined }),
    ]);
    return groupByPod(sandboxes.items, containers.containers);
  }

  /** One pod in full. Things that vanish between the list and the look are left out. */
  async observe(ctx: Ctx, uid: string): Promise<ObservedPod> {
    const labelSelector = { [podUidLabel]: uid };
    const [{ items }, { containers }] = await Promise.all([
      this.#runtime(ctx, this.#client.runtime.listPodSandbox, { filter: { id: '', state: undefined, labelSelector } }),
      this.#runtime(ctx, this.#client.runtime.listContainers, { filter: { id: '', state: undefined, podSandboxId: '', labelSelector } }),
    ]);
    const [sandboxes, statuses] = await Promise.all([
      Promise.all(items.map(({ id }) => unlessGone(this.#runtime(ctx, this.#client.runtime.podSandboxStatus, { podSandboxId: id, verbose: false })))),
      Promise.all(
        containers.map(async ({ id, podSandboxId }) => ({
          podSandboxId,
          answer: await unlessGone(this.#runtime(ctx, this.#client.runtime.containerStatus, { containerId: id, verbose: false })),
        })),
      ),
    ]);
    return orderedPod(
      uid,
      sandboxes.flatMap((answer) => (answer?.status === undefined ? [] : [observedSandbox(answer.status)])),
      statuses.flatMap(({ answer, podSandboxId }) => (answer?.status === undefined ? [] : [observedContainer(answer.status, podSandboxId)])),
    );
  }

  /** Undefined when the runtime does not know it (any more). */
  async container(ctx: Ctx, id: string): Promise<ObservedContainer | undefined> {
    const answer = await unlessGone(this.#runtime(ctx, this.#client.runtime.containerStatus, { containerId: id, verbose: false }));
    return answer?.status === undefined ? undefined : observedContainer(answer.status, '');
  }

  async runSandbox(ctx: Ctx, config: PodSandboxConfig, runtimeHandler: string): Promise<string> {
    return (await this.#runtime(ctx, this.#client.runtime.runPodSandbox, { config, runtimeHandler }, this.#timeoutMs * 2)).podSandboxId;
  }

  /** May be called again; what is gone counts as stopped. */
  async stopSandbox(ctx: Ctx, id: string): Promise<void> {
    await unlessGone(this.#runtime(ctx, this.#client.runtime.stopPodSandbox, { podSandboxId: id }));
  }

  async removeSandbox(ctx: Ctx, id: string): Promise<void> {
    await unlessGone(this.#runtime(ctx, this.#client.runtime.removePodSandbox, { podSandboxId: id }));
  }

  async createContainer(ctx: Ctx, sandboxId: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig): Promise<string> {
    return (await this.#runtime(ctx, this.#client.runtime.createContainer, { podSandboxId: sandboxId, config, sandboxConfig })).containerId;
  }

  async startContainer(ctx: Ctx, id: string): Promise<void> {
    await this.#runtime(ctx, this.#client.runtime.startContainer, { containerId: id });
  }

  /** Returns when the container has stopped; what is gone counts as stopped. */
  async stopContainer(ctx: Ctx, id: string, graceSeconds: number): Promise<void> {
    await unlessGone(this.#runtime(ctx, this.#client.runtime.stopContainer, { containerId: id, timeout: BigInt(graceSeconds) }, graceSeconds * 1000 + stopMarginMs));
  }

  async removeContainer(ctx: Ctx, id: string): Promise<void> {
    await unlessGone(this.#runtime(ctx, this.#client.runtime.removeContainer, { containerId: id }));
  }

  async updateContainerResources(ctx: Ctx, id: string, linux: LinuxContainerResources): Promise<void> {
    await this.#runtime(ctx, this.#client.runtime.updateContainerResources, { containerId: id, linux, windows: undefined, annotations: {} });
  }

  /** A command that outlives `timeoutSeconds` is a Fault of kind timeout. */
  execSync(ctx: Ctx, id: string, command: readonly string[], timeoutSeconds: number): Promise<ExecSyncResponse> {
    return this.#runtime(
      ctx, this.#client.runtime.execSync, { containerId: id, cmd: [...command], timeout: BigInt(timeoutSeconds) },
      timeoutSeconds > 0 ? timeoutSeconds * 1000 + this.#timeoutMs : undefined,
    );
  }

  /** The URL of a streaming server, for one use. */
  async execUrl(ctx: Ctx, request: ExecRequest): Promise<string> {
    return (await this.#runtime(ctx, this.#client.runtime.exec, request)).url;
  }

  async attachUrl(ctx: Ctx, request: Omit<ExecRequest, 'cmd'>): Promise<string> {
    return (await this.#runtime(ctx, this.#client.runtime.attach, request)).url;
  }

  async portForwardUrl(ctx: Ctx, sandboxId: string, port: number[]): Promise<string> {
    return (await this.#runtime(ctx, this.#client.runtime.portForward, { podSandboxId: sandboxId, port })).url;
  }

  async reopenLog(ctx: Ctx, id: string): Promise<void> {
    await this.#runtime(ctx, this.#client.runtime.reopenContainerLog, { containerId: id });
  }

  /** Undefined when the image is not here. */
  async image(ctx: Ctx, reference: string): Promise<Image | undefined> {
    return (await this.#image(ctx, this.#client.image.imageStatus, { image: imageSpec(reference), verbose: false })).image;
  }

  async images(ctx: Ctx): Promise<Image[]> {
    return (await this.#image(ctx, this.#client.image.listImages, { filter: undefined })).images;
  }

  /** Returns the reference to create containers with. Lasts as long as the context allows. */
  async pullImage(ctx: Ctx, reference: string, auth: Partial<AuthConfig> | undefined, sandboxConfig: PodSandboxConfig | undefined): Promise<string> {
    const method = this.#client.image.pullImage.bind(this.#client.image);
    const { imageRef } = await callCri(ctx, method, { image: imageSpec(reference), auth: auth === undefined ? undefined : AuthConfig.fromPartial(auth), sandboxConfig });
    if (imageRef === '') throw new Fault('internal', `the runtime pulled ${reference} and did not say what it is`);
    return imageRef;
  }

  async removeImage(ctx: Ctx, reference: string): Promise<void> {
    await unlessGone(this.#image(ctx, this.#client.image.removeImage, { image: imageSpec(reference) }));
  }

  imageFsInfo(ctx: Ctx): Promise<ImageFsInfoResponse> {
    return this.#image(ctx, this.#client.image.imageFsInfo, {});
  }

  #runtime<Request, Response>(ctx: Ctx, method: Unary<Request, Response>, request: Request, timeoutMs: number | undefined = this.#timeoutMs): Promise<Response> {
    return callCri(ctx, method.bind(this.#client.runtime), request, timeoutMs);
  }

  #image<Request, Response>(ctx: Ctx, method: Unary<Request, Response>, request: Request): Promise<Response> {
    return callCri(ctx, method.bind(this.#client.image), request, this.#timeoutMs);
  }
}

/** Connects lazily, and again after a loss; `close` ends the calls under way. */
export function connectRuntime(endpoint: string, options: { timeoutMs: number }): { readonly runtime: Runtime; close(): void } {
  const client = connectCri(endpoint);
  return { runtime: new Runtime(client, options), close: () => client.close() };
}

const imageSpec = (image: string): ImageSpec => ImageSpecs.fromPartial({ image });

async function unlessGone<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isFault(error, 'not-found')) return undefined;
    throw error;
  }
}
