/** A CRI server in memory, behind a real gRPC server on a private socket: for tests of what uses the runtime. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials, status as Code, type sendUnaryData, type ServerUnaryCall, type UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  ContainerState, ContainerStatus, ContainerStatusResponse, type CreateContainerRequest, Image, ImageServiceService, ImageStatusResponse, type ListContainersRequest, NamespaceMode,
  PodSandboxConfig, PodSandboxState, PodSandboxStatus, PodSandboxStatusResponse, type PullImageRequest, type RunPodSandboxRequest, RuntimeServiceService, StatusResponse, type StopContainerRequest,
  type Container, type ContainerConfig, type PodSandbox,
} from '#cri-api';

interface FakeSandbox {
  readonly id: string;
  readonly config: PodSandboxConfig;
  ready: boolean;
  readonly createdAt: bigint;
}

export interface FakeContainer {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: ContainerConfig;
  state: ContainerState;
  readonly createdAt: bigint;
  startedAt: bigint;
  finishedAt: bigint;
  exitCode: number;
}

/** Thrown by a hook: the call fails with this code. */
export class FakeFailure extends Error {
  readonly code: Code;
  constructor(message: string, code: Code = Code.UNKNOWN) {
    super(message);
    this.code = code;
  }
}

export interface FakeHooks {
  /** Before the call has its effect; throw to make it fail, wait to make it slow. `subject` is a container or image name, or an id. */
  before?: (rpc: string, subject: string) => Promise<void> | void;
  /** A container with this name ends at once with this code. */
  exitsWith?: (container: string, attempt: number) => number | undefined;
}

let lastNs = 0n;
/** Never twice the same: the order of creation is the order of times. */
const now = (): bigint => {
  const ns = BigInt(Date.now()) * 1_000_000n;
  lastNs = ns > lastNs ? ns : lastNs + 1n;
  return lastNs;
};

export class FakeCri implements AsyncDisposable {
  readonly calls: string[] = [];
  readonly sandboxes = new Map<string, FakeSandbox>();
  readonly containers = new Map<string, FakeContainer>();
  readonly images = new Set<string>();
  hooks: FakeHooks = {};
  endpoint = '';
  #dir = '';
  #ids = 0;
  readonly #server = new Server();

  static async start(images: readonly string[] = []): Promise<FakeCri> {
    const fake = new FakeCri();
    for (const image of images) fake.images.add(image);
    fake.#dir = await mkdtemp(join(tmpdir(), 'cri-'));
    fake.endpoint = `unix://${fake.#dir}/cri.sock`;
    fake.#server.addService(RuntimeServiceService, fake.#runtimeService());
    fake.#server.addService(ImageServiceService, fake.#imageService());
    await new Promise<void>((resolve, reject) => fake.#server.bindAsync(fake.endpoint, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error))));
    return fake;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await rm(this.#dir, { recursive: true, force: true });
  }

  /** The instances of a container by its name, oldest first. */
  named(name: string): FakeContainer[] {
    return [...this.containers.values()].filter(({ config }) => config.metadata?.name === name);
  }

  /** As if the process had ended by itself. */
  exit(container: FakeContainer, exitCode: number): void {
    Object.assign(container, { state: ContainerState.CONTAINER_EXITED, exitCode, finishedAt: now() });
  }

  #id(kind: string): string {
    this.#ids += 1;
    return `${kind}${this.#ids}`;
  }

  #runtimeService(): UntypedServiceImplementation {
    const unary = this.#unary.bind(this);
    return {
      version: unary('version', () => '', () => ({ version: '0.1.0', runtimeName: 'fake', runtimeVersion: '1', runtimeApiVersion: 'v1' })),
      status: unary('status', () => '', () => StatusResponse.fromPartial({ status: { conditions: [{ type: 'RuntimeReady', status: true }, { type: 'NetworkReady', status: true }] } })),
      listPodSandbox: unary('listPodSandbox', () => '', (request: { filter?: { labelSelector: Record<string, string> } }) => ({ items: [...this.sandboxes.values()].map(listed).filter(matching(request.filter)) })),
      listContainers: unary('listContainers', () => '', (request: ListContainersRequest) => ({ containers: [...this.containers.values()].map(listedContainer).filter(matching(request.filter)) })),
      podSandboxStatus: unary('podSandboxStatus', byId, ({ podSandboxId }: { podSandboxId: string }) => PodSandboxStatusResponse.fromPartial({ status: sandboxStatus(found(this.sandboxes, podSandboxId)) })),
      containerStatus: unary('containerStatus', byId, ({ containerId }: { containerId: string }) => ContainerStatusResponse.fromPartial({ status: containerStatus(found(this.containers, containerId)) })),
      runPodSandbox: unary('runPodSandbox', (request: RunPodSandboxRequest) => request.config?.metadata?.name ?? '', ({ config }) => {
        const id = this.#id('sandbox');
        this.sandboxes.set(id, { id, config: config ?? PodSandboxConfig.fromPartial({}), ready: true, createdAt: now() });
        return { podSandboxId: id };
      }),
      stopPodSandbox: unary('stopPodSandbox', byId, ({ podSandboxId }: { podSandboxId: string }) => {
        for (const each of this.containers.values()) if (each.sandboxId === podSandboxId && each.state === ContainerState.CONTAINER_RUNNING) this.exit(each, 137);
        found(this.sandboxes, podSandboxId).ready = false;
        return {};
      }),
      removePodSandbox: unary('removePodSandbox', byId, ({ podSandboxId }: { podSandboxId: string }) => (this.sandboxes.delete(podSandboxId), {})),
      createContainer: unary('createContainer', (request: CreateContainerRequest) => request.config?.metadata?.name ?? '', (request) => ({ containerId: this.#create(request) })),
      startContainer: unary('startContainer', (request: { containerId: string }) => this.containers.get(request.containerId)?.config.metadata?.name ?? '', ({ containerId }) => (this.#start(found(this.containers, containerId)), {})),
      stopContainer: unary('stopContainer', (request: StopContainerRequest) => `${this.containers.get(request.containerId)?.config.metadata?.name} ${request.timeout}`, ({ containerId }) => {
        const target = found(this.containers, containerId);
        if (target.state === ContainerState.CONTAINER_RUNNING) this.exit(target, 143);
        return {};
      }),
      removeContainer: unary('removeContainer', byId, ({ containerId }: { containerId: string }) => (this.containers.delete(containerId), {})),
    };
  }

  #imageService(): UntypedServiceImplementation {
    return {
      imageStatus: this.#unary('imageStatus', (request: { image?: { image: string } }) => request.image?.image ?? '', (request) =>
        ImageStatusResponse.fromPartial({ image: this.images.has(request.image?.image ?? '') ? Image.fromPartial({ id: request.image?.image ?? '', size: 1n }) : undefined })),
      pullImage: this.#unary('pullImage', (request: PullImageRequest) => request.image?.image ?? '', (request) => {
        const name = request.image?.image ?? '';
        this.images.add(name);
        return { imageRef: name };
      }),
    };
  }

  /** Every call passes here: recorded, then the hook, then the effect. */
  #unary<Request>(rpc: string, subjectOf: (request: Request) => string, effect: (request: Request) => object) {
    return (call: ServerUnaryCall<Request, object>, done: sendUnaryData<object>): void => {
      const subject = subjectOf(call.request);
      if (!/^(list|version|status|podSandboxStatus|containerStatus|imageStatus)/.test(rpc)) this.calls.push(`${rpc} ${subject}`);
      const work = async (): Promise<object> => {
        await this.hooks.before?.(rpc, subject);
        return effect(call.request);
      };
      work().then((answer) => done(null, answer), (error: unknown) => done({ code: error instanceof FakeFailure ? error.code : Code.INTERNAL, details: error instanceof Error ? error.message : String(error) }));
    };
  }

  #create({ podSandboxId, config }: CreateContainerRequest): string {
    if (config === undefined) throw new FakeFailure('no configuration', Code.INVALID_ARGUMENT);
    found(this.sandboxes, podSandboxId);
    const id = this.#id('container');
    this.containers.set(id, { id, sandboxId: podSandboxId, config, state: ContainerState.CONTAINER_CREATED, createdAt: now(), startedAt: 0n, finishedAt: 0n, exitCode: 0 });
    return id;
  }

  #start(container: FakeContainer): void {
    Object.assign(container, { state: ContainerState.CONTAINER_RUNNING, startedAt: now() });
    const { name = '', attempt = 0 } = container.config.metadata ?? {};
    const exitCode = this.hooks.exitsWith?.(name, attempt);
    if (exitCode !== undefined) this.exit(container, exitCode);
  }
}

const byId = (request: { containerId: string } | { podSandboxId: string }): string => ('containerId' in request ? request.containerId : request.podSandboxId);

function found<T>(all: ReadonlyMap<string, T>, id: string): T {
  const one = all.get(id);
  if (one === undefined) throw new FakeFailure(`${id}: not found`, Code.NOT_FOUND);
  return one;
}

const matching = (filter: { labelSelector: Record<string, string> } | undefined) => ({ labels }: { labels: Record<string, string> }): boolean =>
  Object.entries(filter?.labelSelector ?? {}).every(([key, value]) => labels[key] === value);

const listed = ({ id, config, ready, createdAt }: FakeSandbox): PodSandbox => ({
  id, metadata: config.metadata, createdAt, labels: config.labels, annotations: config.annotations, runtimeHandler: '',
  state: ready ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY,
});

const sandboxStatus = (sandbox: FakeSandbox): PodSandboxStatus =>
  PodSandboxStatus.fromPartial({
    ...listed(sandbox),
    network: { ip: sandbox.ready ? '10.0.0.1' : '' },
    linux: { namespaces: { options: { network: sandbox.config.linux?.securityContext?.namespaceOptions?.network ?? NamespaceMode.POD } } },
  });

const listedContainer = ({ id, sandboxId, config, state, createdAt }: FakeContainer): Container => ({
  id, podSandboxId: sandboxId, metadata: config.metadata, image: config.image, imageRef: '', state, createdAt, labels: config.labels, annotations: config.annotations, imageId: '',
});

const containerStatus = (container: FakeContainer): ContainerStatus => ({
  ...ContainerStatus.fromPartial({}),
  ...listedContainer(container),
  startedAt: container.startedAt,
  finishedAt: container.finishedAt,
  exitCode: container.exitCode,
  mounts: container.config.mounts,
  reason: container.state === ContainerState.CONTAINER_EXITED ? (container.exitCode === 0 ? 'Completed' : 'Error') : '',
});
