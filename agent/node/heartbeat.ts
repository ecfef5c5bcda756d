/** Keeps the Node's status true: looked at every ten seconds, written when it changed, and every five minutes in any case. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Image, StatusResponse, VersionResponse } from '#cri-api';
import { withTimeout } from '#host/ctx.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/events.ts';
import { nodeReference } from '../kube/references.ts';
import { nodePath, nodesPath, nodeStatusPath } from '../kube/resource-path.ts';
import type { Node, NodeCondition, NodeStatus } from '../kube/types.ts';
import { listWatch } from '../kube/watch.ts';
import { buildNode, buildStatus, statusFingerprint } from './build-node.ts';
import type { NodeSettings, RuntimeFacts } from './build-node.ts';
import { conditionEvents, nodeConditions, runtimeProblems } from './conditions.ts';
import type { NodeHealth } from './conditions.ts';
import { findNodeIps } from './host-info.ts';
import type { HostInfo } from './host-info.ts';
import { keepLease } from './lease.ts';
import { registerNode } from './register.ts';

/** What of the runtime the Node tells about; `Runtime` of agent/cri fits. */
export interface NodeRuntime {
  version(ctx: Ctx): Promise<VersionResponse>;
  status(ctx: Ctx): Promise<StatusResponse>;
  images(ctx: Ctx): Promise<Image[]>;
}

export interface NodeAgentOptions {
  readonly client: KubeClient;
  readonly runtime: NodeRuntime;
  readonly events: EventRecorder;
  readonly host: HostInfo;
  readonly settings: NodeSettings;
  readonly registerNode: boolean;
  /** Of the HTTPS server: what the API server dials. */
  readonly port: number;
  readonly leaseDurationSeconds: number;
  readonly updateFrequencyMs: number;
  readonly reportFrequencyMs: number;
  /** More reasons for not being ready ("PLEG is not healthy: …"); none while all is well. */
  readonly problems?: () => readonly string[];
  readonly pressure?: () => Pick<NodeHealth, 'memoryPressure' | 'diskPressure' | 'pidPressure'>;
  /** The node's pod addresses, whenever they are known or change: for the runtime's UpdateRuntimeConfig. */
  readonly onPodCidrs?: (podCidrs: readonly string[]) => void;
}

/** While the node is not ready it is looked at more often: pods wait for it. Source: kubelet fastStatusUpdateOnce. */
const notReadyLookMs = 1_000;
const noPressure = { memoryPressure: false, diskPressure: false, pidPressure: false };
const noRuntime: RuntimeFacts = { version: '', handlers: [], supplementalGroupsPolicy: false, images: [] };

export class NodeAgent {
  readonly #options: NodeAgentOptions;
  #node: Node | undefined;
  #ips: readonly string[] = [];
  #facts: RuntimeFacts = noRuntime;
  #conditions: readonly NodeCondition[] = [];
  #written = { fingerprint: '', atMs: 0 };
  #podCidrs = '';
  #wake = (): void => undefined;

  constructor(options: NodeAgentOptions) {
    this.#options = options;
  }

  /** The Node as last seen; undefined before it is registered. */
  get node(): Node | undefined {
    return this.#node;
  }

  /** This node's addresses, the primary first: `status.hostIPs` of its pods. */
  get ips(): readonly string[] {
    return this.#ips;
  }

  /** Looks at the status now instead of at the next tick: the runtime or the network has changed. */
  refresh(): void {
    this.#wake();
  }

  /** Registers, then keeps lease and status until the context ends. Throws only when it ends before the registration. */
  async run(ctx: Ctx): Promise<void> {
    const { client, settings, events, host } = this.#options;
    this.#see(await client.get<Node>(ctx, nodePath(settings.nodeName)).catch(() => undefined)); // from before a restart: its transition times go on
    const wanted = buildNode(settings, host, await this.#look(ctx));
    this.#see(this.#options.registerNode ? await registerNode(ctx, client, wanted) : undefined);
    events.event(nodeReference(settings.nodeName), 'Normal', 'Starting', 'Starting kubelet.');
    const lease = { nodeName: settings.nodeName, nodeUid: () => this.#node?.metadata?.uid, durationSeconds: this.#options.leaseDurationSeconds };
    await Promise.all([keepLease(ctx, client, lease), this.#follow(ctx), this.#report(ctx)]);
  }

  async #follow(ctx: Ctx): Promise<void> {
    const target = { path: nodesPath, fieldSelector: `metadata.name=${this.#options.settings.nodeName}` };
    await listWatch<Node>(ctx, this.#options.client, target, {
      replace: ([node]) => this.#see(node),
      upsert: (node) => this.#see(node),
      remove: () => {
        ctx.log.warn({ node: this.#options.settings.nodeName }, 'the Node was deleted; it is registered again');
        this.#node = undefined;
        this.#written = { fingerprint: '', atMs: 0 };
        this.#wake();
      },
    });
  }

  #see(node: Node | undefined): void {
    if (node === undefined) return;
    this.#node = node;
    const { podCIDR, podCIDRs = podCIDR === undefined ? [] : [podCIDR] } = node.spec ?? {};
    const text = podCIDRs.join(',');
    if (text === '' || text === this.#podCidrs) return; // a new Node has none for a moment
    this.#podCidrs = text;
    this.#options.onPodCidrs?.(podCIDRs);
    this.#wake();
  }

  async #report(ctx: Ctx): Promise<void> {
    const { updateFrequencyMs, settings } = this.#options;
    let lastProblem = '';
    while (!ctx.signal.aborted) {
      const woken = Promise.withResolvers<void>();
      this.#wake = woken.resolve;
      try {
        await this.#update(withTimeout(ctx, updateFrequencyMs));
        lastProblem = '';
      } catch (err) {
        if (ctx.signal.aborted) return;
        const problem = explain(err);
        if (problem !== lastProblem) ctx.log.warn({ err, node: settings.nodeName }, 'node status not written, trying again');
        lastProblem = problem;
      }
      const timer = new AbortController();
      const isReady = this.#conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
      const delayMs = isReady ? updateFrequencyMs : Math.min(updateFrequencyMs, notReadyLookMs);
      const tick = sleep(delayMs, undefined, { signal: AbortSignal.any([ctx.signal, timer.signal]) }).catch(() => undefined); // only the abort
      await Promise.race([tick, woken.promise]);
      timer.abort();
    }
  }

  async #update(ctx: Ctx): Promise<void> {
    const { client, settings, host, reportFrequencyMs } = this.#options;
    const status = await this.#look(ctx);
    if (this.#node === undefined && this.#options.registerNode) this.#see(await registerNode(ctx, client, buildNode(settings, host, status)));
    const fingerprint = statusFingerprint(status);
    const nowMs = performance.now();
    if (fingerprint === this.#written.fingerprint && nowMs - this.#written.atMs < reportFrequencyMs) return;
    const patched = await client.patch<Node>(ctx, nodeStatusPath(settings.nodeName), 'strategic', { status: patchOf(status, this.#node?.status) });
    this.#written = { fingerprint, atMs: nowMs };
    this.#see(patched);
  }

  /** The status as it is now; says what changed in events. */
  async #look(ctx: Ctx): Promise<NodeStatus> {
    const { settings, host, port, events } = this.#options;
    const conditions = await this.#readRuntime(ctx);
    const ips = await findNodeIps(settings.nodeIP, settings.nodeName);
    if (ips.length > 0) this.#ips = ips;
    const problems = [...runtimeProblems(conditions), ...(this.#options.problems?.() ?? [])];
    if (this.#ips.length === 0) problems.push(`can't get ip address of node ${settings.nodeName}`);
    const health: NodeHealth = { problems, ...(this.#options.pressure?.() ?? noPressure) };
    const before = this.#conditions.length > 0 ? this.#conditions : (this.#node?.status?.conditions ?? []);
    const after = nodeConditions(before, health, `${new Date().toISOString().slice(0, 19)}Z`);
    this.#conditions = after;
    for (const reason of conditionEvents(before, after)) events.event(nodeReference(settings.nodeName), 'Normal', reason, `Node ${settings.nodeName} status is now: ${reason}`);
    return { ...buildStatus(settings, host, this.#facts, this.#ips, port), conditions: after };
  }

  /** Undefined when the runtime does not answer; what it last said about itself is kept. */
  async #readRuntime(ctx: Ctx): Promise<{ type: string; status: boolean; reason: string; message: string }[] | undefined> {
    const { runtime } = this.#options;
    const limited = withTimeout(ctx, Math.max(1_000, this.#options.updateFrequencyMs / 2));
    try {
      const [version, status, images] = await Promise.all([runtime.version(limited), runtime.status(limited), runtime.images(limited)]);
      this.#facts = runtimeFacts(version, status, images);
      return status.status?.conditions ?? [];
    } catch (err) {
      ctx.signal.throwIfAborted();
      ctx.log.debug({ err }, 'the container runtime does not answer');
      return undefined;
    }
  }
}

function runtimeFacts(version: VersionResponse, status: StatusResponse, images: readonly Image[]): RuntimeFacts {
  return {
    version: `${version.runtimeName}://${version.runtimeVersion.replace(/^v/, '')}`,
    handlers: status.runtimeHandlers.map(({ name, features }) => ({
      name, recursiveReadOnlyMounts: features?.recursiveReadOnlyMounts === true, userNamespaces: features?.userNamespaces === true,
    })),
    supplementalGroupsPolicy: status.features?.supplementalGroupsPolicy === true,
    images: images.map(({ repoDigests, repoTags, size }) => ({ names: [...repoDigests, ...repoTags], sizeBytes: Number(size) })),
  };
}

/** A strategic merge patch keeps what it does not name: addresses are replaced as a whole, page sizes that are gone are named to go. */
function patchOf(status: NodeStatus, before: NodeStatus | undefined): object {
  const gone = (name: 'capacity' | 'allocatable'): Record<string, null> =>
    Object.fromEntries(Object.keys(before?.[name] ?? {}).filter((key) => key.startsWith('hugepages-') && !(key in (status[name] ?? {}))).map((key) => [key, null]));
  return {
    ...status,
    capacity: { ...status.capacity, ...gone('capacity') },
    allocatable: { ...status.allocatable, ...gone('allocatable') },
    addresses: [{ $patch: 'replace' }, ...(status.addresses ?? [])],
  };
}
