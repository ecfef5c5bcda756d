/** The agent, put together: a standalone node with static pods, a node of a cluster, or both. */
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { openCgroups } from '#host/cgroup.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault } from '#host/fault.ts';
import { keepDriver } from './cgroup/driver-record.ts';
import { PodCgroups } from './cgroup/manager.ts';
import { connectCluster, type Cluster } from './cluster.ts';
import { withLive } from '#host/config/key.ts';
import type { RunningHalf } from '#host/daemon/half.ts';
import { type AgentConfig, agentKeys } from './config.ts';
import { serviceVariables } from './container-config/service-env.ts';
import { connectRuntime, type Runtime } from './cri/runtime.ts';
import { Images } from './image/ensure.ts';
import { ApiEventRecorder, LogEventRecorder } from './kube/events.ts';
import { ApiObjectSource, type ObjectKind, type ObjectSource } from './kube/object-cache.ts';
import { isStaticPod, podKey, podNamespace, podUid } from './kube/pod-facts.ts';
import { ApiTokenSource } from './kube/token-requests.ts';
import type { Pod, PodStatus } from './kube/types.ts';
import { keepLogsSmall } from './logs/rotate.ts';
import { NodeFactsReader } from './node-facts.ts';
import { readHostInfo } from './node/host-info.ts';
import { startNode } from './node-parts.ts';
import { agentPaths, type AgentPaths } from './paths.ts';
import { admissionRefusal } from './pod/admission.ts';
import { CrashBackOff } from './pod/crash-back-off.ts';
import { keepHouse, orphanGraceSeconds } from './pod/housekeeping.ts';
import { Pleg } from './pod/pleg.ts';
import type { PodDeps } from './pod/pod-deps.ts';
import { PodSources, type SourceName } from './pod/sources.ts';
import { StaticFiles } from './pod/static-files.ts';
import { PodWorkers } from './pod/workers.ts';
import { PodReport } from './pod-report.ts';
import { startHealthServer } from './server/server.ts';
import { StatusWriter } from './status/writer.ts';
import { VolumeManager } from './volume/manager.ts';

/** The kubelet waits as long for its runtime. */
const runtimeWaitMs = 30_000;
const factsEveryMs = 60_000;

/**
 * Throws Fault when the runtime does not answer or a file it needs is wrong; then nothing was started. A look at it fails when its loop does not turn,
 * not when the runtime is away.
 */
export async function startAgent(outer: Ctx, config: AgentConfig): Promise<RunningHalf<AgentConfig>> {
  const stopping = new AbortController();
  const ctx: Ctx = { ...outer, signal: AbortSignal.any([outer.signal, stopping.signal]) };
  const connection = connectRuntime(config.containerRuntimeEndpoint, { timeoutMs: config.runtimeRequestTimeoutMs });
  try {
    let current = config;
    const agent = await build(ctx, config, connection.runtime, () => current);
    return {
      reload: async (_ctx, next) => void (current = withLive(agentKeys, current, next)),
      look: async () => agent.look(),
      stop: async () => {
        stopping.abort(new Fault('canceled', 'the agent is stopping'));
        await agent.stopped();
        connection.close();
      },
    };
  } catch (error) {
    stopping.abort();
    connection.close();
    throw error;
  }
}

/** What was found at the start and does not change. */
interface Found {
  readonly paths: AgentPaths;
  readonly node: NodeFactsReader;
  readonly groups: PodCgroups | undefined;
  readonly cluster: Cluster | undefined;
  readonly report: PodReport;
  readonly remembered: ReadonlyMap<string, PodStatus>;
}

/** `live` is asked each time for what a reload can change. */
async function build(ctx: Ctx, config: AgentConfig, runtime: Runtime, live: () => AgentConfig): Promise<{ stopped(): Promise<void>; look(): string }> {
  // 1. What there is: runtime, machine, cgroups, cluster.
  const found = await look(ctx, config, runtime);
  const { cluster, node, paths, groups, report } = found;
  // 2. Everything that works on pods, wired but not started.
  const parts = assemble(ctx, config, runtime, found);
  const { workers, sources, status, pleg, network, files, deps } = parts;
  // 3. Know what runs before anything is decided.
  await pleg.relist(ctx);
  await network.look(ctx, runtime);
  // 4. The loops.
  const loops = [
    pleg.run(ctx),
    network.run(ctx, runtime, () => workers.wakeAll()),
    every(ctx, factsEveryMs, () => node.refresh(ctx)),
    keepLogsSmall(ctx, {
      get maxBytes() {
        return live().containerLogMaxSizeBytes;
      },
      get maxFiles() {
        return live().containerLogMaxFiles;
      },
      running: (context) => runningLogs(context, runtime, pleg),
      reopen: (context, id) => runtime.reopenLog(context, id),
    }),
    keepHouse(ctx, {
      runtime, groups, paths,
      volumes: deps.volumes,
      runtimePods: () => pleg.pods,
      owned: () => workers.uids(),
      sourcesSeen: () => sources.allSeen,
      adopt: (pod) => workers.adopt(pod, orphanGraceSeconds),
    }),
  ];
  const health = await serveHealth(ctx, config, () => pleg.problem());
  if (cluster !== undefined) loops.push((await startNode(ctx, { config, paths, cluster, runtime, events: deps.events, workers, sources, status, pleg })).done);
  await files?.start(ctx);
  parts.reportPods();
  ctx.log.info({ node: config.nodeName, runtime: runtime.name, mode: cluster === undefined ? 'standalone' : 'cluster' }, 'agent started');
  return {
    look: () => {
      const stuck = pleg.stuck();
      if (stuck !== undefined) throw new Fault('timeout', stuck);
      return `${workers.pods().length} pods wanted${network.problem === undefined ? '' : ', network not ready'}`;
    },
    stopped: async () => {
      await health?.close();
      await Promise.allSettled(loops);
      await workers.quiet();
      await report.flushed();
      cluster?.client.close();
    },
  };
}

async function look(ctx: Ctx, config: AgentConfig, runtime: Runtime): Promise<Found> {
  const paths = agentPaths({ root: config.root, podLogsRoot: config.podLogsDir, containerLogsDir: config.containerLogsDir });
  await mkdir(paths.podsDir, { recursive: true, mode: 0o750 });
  await waitForRuntime(ctx, runtime, config.containerRuntimeEndpoint);
  const cgroups = openCgroups();
  const node = new NodeFactsReader(config, { host: await readHostInfo(paths.root), cgroups, paths });
  await node.refresh(ctx);
  const groups = config.cgroupsPerQOS ? await podGroups(ctx, config, { runtime, cgroups, node, paths }) : undefined;
  const cluster = config.kubeconfig === undefined ? undefined : await connectCluster({ ...config, kubeconfig: config.kubeconfig });
  const report = new PodReport(paths.root);
  return { paths, node, groups, cluster, report, remembered: cluster === undefined ? await report.last() : new Map() };
}

/** Pods do not wait for a port: a second node on one machine goes without, as a kubelet does. */
async function serveHealth(ctx: Ctx, config: AgentConfig, syncLoopProblem: () => string | undefined): Promise<{ close(): Promise<void> } | undefined> {
  if (config.healthzPort === 0) return undefined;
  try {
    return await startHealthServer({ address: config.healthzBindAddress, port: config.healthzPort, syncLoopProblem });
  } catch (error) {
    ctx.log.warn({ err: error }, 'no /healthz');
    return undefined;
  }
}

interface Parts {
  readonly deps: PodDeps;
  readonly workers: PodWorkers;
  readonly sources: PodSources;
  readonly status: StatusWriter;
  readonly pleg: Pleg;
  readonly network: NetworkWatch;
  readonly files: StaticFiles | undefined;
  readonly reportPods: () => void;
}

function assemble(ctx: Ctx, config: AgentConfig, runtime: Runtime, { paths, node, groups, cluster, report, remembered }: Found): Parts {
  const reportPods = (): void => {
    if (cluster === undefined) report.changed(ctx, () => workers.pods(), status);
  };
  const status = new StatusWriter(ctx, cluster?.status, {
    changed: (pod, now) => {
      ctx.log.debug({ pod: podKey(pod), uid: podUid(pod), phase: now.phase }, 'pod status');
      reportPods();
    },
    remembered,
  });
  const events = cluster === undefined ? new LogEventRecorder(ctx) : new ApiEventRecorder(ctx, cluster.client, config.nodeName);
  const names: SourceName[] = [...(config.staticPodPath === undefined ? [] : (['file'] as const)), ...(cluster === undefined ? [] : (['api'] as const))];
  const sources = new PodSources(names, (change) => {
    if (change.type === 'removed') return workers.remove(podUid(change.pod));
    if (change.type === 'refreshed') workers.refresh(change.pod);
    else workers.update(change.pod);
    status.seen(change.pod);
  });
  const files = config.staticPodPath === undefined ? undefined : new StaticFiles({ path: config.staticPodPath, nodeName: config.nodeName, sink: sources.sink('file'), objectsChanged: () => workers.wakeAll() });
  const wakeUsers = (kind: ObjectKind, namespace: string, name: string): void => volumes.usersOf(kind, namespace, name).forEach((uid) => workers.wake(uid));
  const objects: ObjectSource = cluster !== undefined ? new ApiObjectSource(ctx, cluster.client, { onChange: wakeUsers }) : (files ?? noObjects);
  const podIPsOf = (pod: Pod): string[] => (status.get(podUid(pod))?.podIPs ?? []).flatMap(({ ip }) => (ip === undefined ? [] : [ip]));
  const volumes = new VolumeManager({
    podDir: paths.podDir,
    objects,
    tokens: cluster === undefined ? undefined : new ApiTokenSource(cluster.client),
    placeOf: (pod) => ({ hostIPs: node.facts().hostIPs, allocatable: node.facts().allocatable, podIPs: podIPsOf(pod) }),
  });
  const network = new NetworkWatch();
  const nowMs = Date.now;
  const deps: PodDeps = {
    runtime, events, objects, status, volumes, groups, paths, nowMs,
    mirrors: cluster?.mirrors,
    images: new Images({ runtime, events, nowMs }),
    backOff: new CrashBackOff({ capMs: config.maxContainerRestartPeriodMs }),
    // Probes are not asked yet: what runs counts as started and ready.
    probes: { started: () => true, ready: () => true },
    node: () => node.facts(),
    networkProblem: () => network.problem,
    serviceVariables: (pod) => serviceVariables(cluster?.services() ?? [], { namespace: podNamespace(pod), enableServiceLinks: pod.spec?.enableServiceLinks !== false }),
    runtimeHandler: (context, pod) => runtimeHandler(context, cluster, pod),
    admit: (pod) => admissionRefusal(pod, { allocatable: node.facts().allocatable, others: workers.active(), node: cluster?.node() }),
  };
  const workers: PodWorkers = new PodWorkers(ctx, { deps, resyncMs: config.syncFrequencyMs, forgotten: reportPods });
  const pleg = new Pleg({ runtime, changed: (uid) => workers.wake(uid), nowMs });
  return { deps, workers, sources, status, pleg, network, files, reportPods };
}

const noObjects: ObjectSource = { configMap: () => Promise.resolve(undefined), secret: () => Promise.resolve(undefined) };

async function waitForRuntime(ctx: Ctx, runtime: Runtime, endpoint: string): Promise<void> {
  const untilMs = performance.now() + runtimeWaitMs;
  for (;;) {
    try {
      await runtime.version(ctx);
      return;
    } catch (cause) {
      ctx.signal.throwIfAborted();
      if (performance.now() > untilMs) throw new Fault('unavailable', `the container runtime at ${endpoint} does not answer: ${explain(cause)}`, cause);
      await sleep(200, undefined, { signal: ctx.signal });
    }
  }
}

interface GroupParts {
  readonly runtime: Runtime;
  readonly cgroups: Cgroups;
  readonly node: NodeFactsReader;
  readonly paths: AgentPaths;
}

async function podGroups(ctx: Ctx, config: AgentConfig, { runtime, cgroups, node, paths }: GroupParts): Promise<PodCgroups> {
  const driver = (await runtime.cgroupDriver(ctx)) ?? 'cgroupfs';
  await keepDriver(paths.cgroupDriverFile, driver);
  const groups = new PodCgroups(cgroups, { driver, cgroupRoot: config.cgroupRoot, cpuCfsQuota: config.cpuCFSQuota, podPidsLimit: config.podPidsLimit });
  await groups.ensureRoot(ctx, node.allocatable);
  return groups;
}

/** The logs of what runs, as of the last relist. */
async function runningLogs(ctx: Ctx, runtime: Runtime, pleg: Pleg): Promise<{ containerId: string; path: string }[]> {
  const ids = [...pleg.pods.values()].flatMap(({ containers }) => containers.filter(({ state }) => state === 'running').map(({ id }) => id));
  const found = await Promise.all(ids.map((id) => runtime.container(ctx, id)));
  return found.flatMap((container) => (container === undefined || container.logPath === '' ? [] : [{ containerId: container.id, path: container.logPath }]));
}

async function runtimeHandler(ctx: Ctx, cluster: Cluster | undefined, pod: Pod): Promise<string> {
  if (cluster !== undefined && !isStaticPod(pod)) return cluster.runtimeHandler(ctx, pod);
  // Without an API server there are no RuntimeClasses: the name is the runtime's own.
  return pod.spec?.runtimeClassName ?? '';
}

/** Whether the runtime has a network for pods: asked every few seconds, as the kubelet does. */
class NetworkWatch {
  #problem: string | undefined;

  get problem(): string | undefined {
    return this.#problem;
  }

  async look(ctx: Ctx, runtime: Runtime): Promise<void> {
    const { status } = await runtime.status(ctx);
    const network = status?.conditions.find(({ type }) => type === 'NetworkReady');
    const ready = network === undefined || network.status;
    this.#problem = ready ? undefined : `container runtime network not ready: NetworkReady=false reason:${network.reason} message:${network.message}`;
  }

  async run(ctx: Ctx, runtime: Runtime, changed: () => void): Promise<void> {
    await every(ctx, 5000, async () => {
      const before = this.#problem;
      await this.look(ctx, runtime);
      if (before !== this.#problem) changed();
    });
  }
}

/** Until the context ends; a failure waits for the next turn (the relist already says that the runtime is away). */
async function every(ctx: Ctx, ms: number, work: () => Promise<void>): Promise<void> {
  while (!ctx.signal.aborted) {
    await sleep(ms, undefined, { signal: ctx.signal }).catch(() => undefined); // aborted: the loop ends
    if (!ctx.signal.aborted) await work().catch((error: unknown) => ctx.log.debug({ why: explain(error) }, 'periodic look failed'));
  }
}
