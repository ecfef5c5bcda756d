/** One pod by the CRI: its messages, and its life call by call. */
import {
  ContainerConfig, ContainerState, type ContainerStatusResponse, type CreateContainerResponse, type CriClient, type ExecSyncResponse, NamespaceMode, PodSandboxConfig,
  type RunPodSandboxResponse, SecurityProfile_ProfileType,
} from '#cri-api';

/** The workload is recognised in the process table by this argument: what it costs is not the server's. */
export const workloadMark = '86397';

/** A benchmark must not hang for ever, and nothing that takes this long is worth a number. */
const callTimeoutMs = 120_000;

/** Promise form of a unary call: `call((done) => client.version(request, done))`. */
export function call<Response>(begin: (done: (error: Error | null, response: Response) => void) => { cancel(): void }): Promise<Response> {
  return new Promise((resolve, reject) => {
    const running = begin((error, response) => {
      clearTimeout(timer);
      if (error === null) resolve(response);
      else reject(error);
    });
    const timer = setTimeout(() => running.cancel(), callTimeoutMs);
  });
}

export interface PodPlan {
  /** Unique on the server. */
  readonly name: string;
  readonly image: string;
  readonly cgroupParent: string;
  readonly logDirectory: string;
  readonly hostNetwork: boolean;
  readonly seccomp: 'unconfined' | 'default';
}

const uidOf = (name: string): string => `bench-${name}`;

function namespacesOf(plan: PodPlan): { network: NamespaceMode; pid: NamespaceMode; ipc: NamespaceMode } {
  return { network: plan.hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD };
}

const profileOf = (plan: PodPlan): { profileType: SecurityProfile_ProfileType } => ({
  profileType: plan.seccomp === 'default' ? SecurityProfile_ProfileType.RuntimeDefault : SecurityProfile_ProfileType.Unconfined,
});

function sandboxConfig(plan: PodPlan): PodSandboxConfig {
  return PodSandboxConfig.fromPartial({
    metadata: { name: plan.name, namespace: 'bench', uid: uidOf(plan.name), attempt: 0 },
    hostname: plan.hostNetwork ? '' : plan.name.slice(0, 63),
    logDirectory: plan.logDirectory,
    dnsConfig: { servers: ['192.0.2.53'], searches: ['bench.local'] },
    labels: { 'io.kubernetes.pod.name': plan.name, 'io.kubernetes.pod.namespace': 'bench', 'io.kubernetes.pod.uid': uidOf(plan.name) },
    linux: { cgroupParent: plan.cgroupParent, securityContext: { namespaceOptions: namespacesOf(plan), seccomp: profileOf(plan) } },
  });
}

function containerConfig(plan: PodPlan): ContainerConfig {
  return ContainerConfig.fromPartial({
    metadata: { name: 'main', attempt: 0 },
    image: { image: plan.image, userSpecifiedImage: plan.image },
    command: ['/bin/sleep', workloadMark],
    labels: { 'io.kubernetes.container.name': 'main', 'io.kubernetes.pod.name': plan.name, 'io.kubernetes.pod.namespace': 'bench', 'io.kubernetes.pod.uid': uidOf(plan.name) },
    logPath: 'main/0.log',
    linux: { resources: { cpuShares: 102n, oomScoreAdj: 1000n }, securityContext: { namespaceOptions: namespacesOf(plan), seccomp: profileOf(plan) } },
  });
}

/** A running pod. */
export interface Pod {
  readonly sandboxId: string;
  readonly containerId: string;
}

/** Told how long each call took. */
export type Clock = <T>(name: string, work: () => Promise<T>) => Promise<T>;
const untimed: Clock = (_name, work) => work();

export class Life {
  readonly #runtime: CriClient['runtime'];
  readonly #handler: string;
  /** What is there now, for the clean-up. */
  readonly sandboxes = new Set<string>();

  constructor(client: CriClient, handler: string) {
    this.#runtime = client.runtime;
    this.#handler = handler;
  }

  /** RunPodSandbox, CreateContainer, StartContainer. */
  async start(plan: PodPlan, clock: Clock = untimed): Promise<Pod> {
    const runtime = this.#runtime;
    const config = sandboxConfig(plan);
    const { podSandboxId } = await clock('RunPodSandbox', () => call<RunPodSandboxResponse>((done) => runtime.runPodSandbox({ config, runtimeHandler: this.#handler }, done)));
    this.sandboxes.add(podSandboxId);
    const request = { podSandboxId, config: containerConfig(plan), sandboxConfig: config };
    const { containerId } = await clock('CreateContainer', () => call<CreateContainerResponse>((done) => runtime.createContainer(request, done)));
    await clock('StartContainer', () => call((done) => runtime.startContainer({ containerId }, done)));
    return { sandboxId: podSandboxId, containerId };
  }

  /** Throws when the container does not run. */
  async assertRunning({ containerId }: Pod, clock: Clock = untimed): Promise<void> {
    const { status } = await clock('ContainerStatus', () => call<ContainerStatusResponse>((done) => this.#runtime.containerStatus({ containerId, verbose: false }, done)));
    if (status?.state !== ContainerState.CONTAINER_RUNNING) throw new Error(`container ${containerId} is not running (state ${status?.state})`);
  }

  async execTrue({ containerId }: Pod, clock: Clock): Promise<void> {
    const answer = await clock('ExecSync true', () => call<ExecSyncResponse>((done) => this.#runtime.execSync({ containerId, cmd: ['/bin/true'], timeout: 60n }, done)));
    if (answer.exitCode !== 0) throw new Error(`exec of true ended with ${answer.exitCode}`);
  }

  async stopContainer({ containerId }: Pod, clock: Clock): Promise<void> {
    await clock('StopContainer, no grace', () => call((done) => this.#runtime.stopContainer({ containerId, timeout: 0n }, done)));
    await clock('RemoveContainer', () => call((done) => this.#runtime.removeContainer({ containerId }, done)));
  }

  /** With or without a running container. */
  async remove({ sandboxId }: Pick<Pod, 'sandboxId'>): Promise<void> {
    await call((done) => this.#runtime.stopPodSandbox({ podSandboxId: sandboxId }, done));
    await call((done) => this.#runtime.removePodSandbox({ podSandboxId: sandboxId }, done));
    this.sandboxes.delete(sandboxId);
  }

  /** Everything that this bench still has on the server. */
  async removeAll(): Promise<void> {
    for (const sandboxId of this.sandboxes) await this.remove({ sandboxId });
  }
}
