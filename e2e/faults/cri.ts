/** The CRI as the kubelet speaks it: gRPC with deadlines, in a few words. */
import { type CallOptions, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  connectCri, ContainerConfig, type ContainerState, type ContainerStatus, CreateContainerRequest, ExecSyncRequest, NamespaceMode, PodSandboxConfig,
  type PodSandboxState, PullImageRequest, RunPodSandboxRequest, type ImageServiceClient, type RuntimeServiceClient,
} from '#cri-api';
import { busyboxImage } from '../harness/registry.ts';

type Client = RuntimeServiceClient & ImageServiceClient;
/** [request, response] of a unary method. */
type Unary<K extends keyof Client> = Client[K] extends (request: infer Q, metadata: Metadata, options: Partial<CallOptions>, callback: (error: ServiceError | null, response: infer A) => void) => unknown ? [Q, A] : never;

export interface Patience {
  /** As the kubelet's runtimeRequestTimeout. Default 60 s: longer is a hang. */
  readonly deadlineMs?: number;
}

export class Cri {
  readonly #connection: ReturnType<typeof connectCri>;

  constructor(socket: string) {
    this.#connection = connectCri(socket);
  }

  /** One call. Rejects with grpc-js's ServiceError, which has `code` and `details`. */
  call<K extends keyof Client>(name: K, request: Unary<K>[0], { deadlineMs = 60_000 }: Patience = {}): Promise<Unary<K>[1]> {
    const client = (name in this.#connection.image ? this.#connection.image : this.#connection.runtime) as unknown as Record<string, (...args: unknown[]) => unknown>;
    return new Promise((resolve, reject) => {
      client[name as string]?.(request, new Metadata({ waitForReady: true }), { deadline: Date.now() + deadlineMs }, (error: ServiceError | null, response: Unary<K>[1]) => {
        if (error === null) resolve(response);
        else reject(error);
      });
    });
  }

  async pull(image = busyboxImage): Promise<void> {
    await this.call('pullImage', PullImageRequest.create({ image: { image } }));
  }
  async runPod(config: PodSandboxConfig, patience?: Patience): Promise<string> {
    return (await this.call('runPodSandbox', RunPodSandboxRequest.create({ config }), patience)).podSandboxId;
  }
  async create(pod: string, podConfig: PodSandboxConfig, config: ContainerConfig, patience?: Patience): Promise<string> {
    return (await this.call('createContainer', CreateContainerRequest.create({ podSandboxId: pod, config, sandboxConfig: podConfig }), patience)).containerId;
  }
  async start(containerId: string, patience?: Patience): Promise<void> {
    await this.call('startContainer', { containerId }, patience);
  }
  async stop(containerId: string, graceSeconds: number, patience?: Patience): Promise<void> {
    await this.call('stopContainer', { containerId, timeout: BigInt(graceSeconds) }, patience);
  }
  async remove(containerId: string, patience?: Patience): Promise<void> {
    await this.call('removeContainer', { containerId }, patience);
  }
  async stopPod(podSandboxId: string, patience?: Patience): Promise<void> {
    await this.call('stopPodSandbox', { podSandboxId }, patience);
  }
  async removePod(podSandboxId: string, patience?: Patience): Promise<void> {
    await this.call('removePodSandbox', { podSandboxId }, patience);
  }
  async exec(containerId: string, cmd: readonly string[], options: Patience & { readonly timeoutSeconds?: number } = {}): Promise<{ stdout: string; stderr: string; exitCode: number }> {
    const { stdout, stderr, exitCode } = await this.call('execSync', ExecSyncRequest.create({ containerId, cmd: [...cmd], timeout: BigInt(options.timeoutSeconds ?? 0) }), options);
    return { stdout: Buffer.from(stdout).toString('utf8'), stderr: Buffer.from(stderr).toString('utf8'), exitCode };
  }
  async status(containerId: string): Promise<ContainerStatus> {
    const { status } = await this.call('containerStatus', { containerId, verbose: false });
    if (status === undefined) throw new Error(`container ${containerId} has no status`);
    return status;
  }
  /** From the verbose status: what is not part of the contract. */
  async info(containerId: string): Promise<{ pid: number; monitor: number; bundle: string }> {
    const { info } = await this.call('containerStatus', { containerId, verbose: true });
    return JSON.parse(info['info'] ?? '{}') as { pid: number; monitor: number; bundle: string };
  }
  async podState(podSandboxId: string): Promise<PodSandboxState | undefined> {
    return (await this.call('podSandboxStatus', { podSandboxId, verbose: false })).status?.state;
  }
  async pods(): Promise<string[]> {
    return (await this.call('listPodSandbox', { filter: undefined })).items.map(({ id }) => id);
  }
  async containers(): Promise<{ id: string; state: ContainerState }[]> {
    return (await this.call('listContainers', { filter: undefined })).containers.map(({ id, state }) => ({ id, state }));
  }
  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

/** `sharesPid`: with an init, which the OCI runtime makes. */
export const podConfig = (name: string, place: { logs: string; cgroupParent: string }, sharesPid = false): PodSandboxConfig =>
  PodSandboxConfig.create({
    metadata: { name, namespace: 'faults', uid: `${name}-uid`, attempt: 0 },
    hostname: name,
    logDirectory: `${place.logs}/${name}`,
    linux: { cgroupParent: place.cgroupParent, securityContext: { namespaceOptions: { pid: sharesPid ? NamespaceMode.POD : NamespaceMode.CONTAINER } } },
  });

export const containerConfig = (name: string, script: string, more: Partial<ContainerConfig> = {}): ContainerConfig =>
  ContainerConfig.create({ metadata: { name, attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', script], logPath: `${name}.log`, ...more });

/** Ends at once when asked to. */
export const idle = 'trap "exit 0" TERM; sleep 100000 & wait';
