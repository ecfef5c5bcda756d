/** The loops that only a node of a cluster has: Node object, pod and service watches, HTTPS server. */
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import type { Cluster } from './cluster.ts';
import type { AgentConfig } from './config.ts';
import type { Runtime } from './cri/runtime.ts';
import type { EventRecorder } from './kube/events.ts';
import { isStaticPod, podKey, podName, podNamespace, podUid } from './kube/pod-facts.ts';
import type { Pod } from './kube/types.ts';
import { readHostInfo } from './node/host-info.ts';
import { NodeAgent } from './node/heartbeat.ts';
import type { AgentPaths } from './paths.ts';
import { podOfRuntime } from './pod/housekeeping.ts';
import type { Pleg } from './pod/pleg.ts';
import type { PodSources } from './pod/sources.ts';
import type { PodWorkers } from './pod/workers.ts';
import type { ServerBackend } from './server/routes.ts';
import { startServer } from './server/server.ts';
import type { StatusWriter } from './status/writer.ts';

export interface NodeParts {
  readonly config: AgentConfig;
  readonly paths: AgentPaths;
  readonly cluster: Cluster;
  readonly runtime: Runtime;
  readonly events: EventRecorder;
  readonly workers: PodWorkers;
  readonly sources: PodSources;
  readonly status: StatusWriter;
  readonly pleg: Pleg;
}

/** Throws when the server cannot start (port, certificates). `done` ends with the context. */
export async function startNode(ctx: Ctx, parts: NodeParts): Promise<{ readonly done: Promise<void> }> {
  const { config, cluster, runtime, events, paths, pleg, sources } = parts;
  const server = await startServer(ctx, {
    address: config.address,
    port: config.port,
    nodeName: config.nodeName,
    client: cluster.client,
    backend: serverBackend(parts),
    clientCAFile: config.clientCAFile,
    tlsCertFile: config.tlsCertFile,
    tlsPrivateKeyFile: config.tlsPrivateKeyFile,
    selfSigned: { pkiDir: join(paths.root, 'pki'), nodeName: config.nodeName, hosts: [config.nodeName, ...(config.nodeIP?.split(',') ?? [])] },
  });
  const node = new NodeAgent({
    client: cluster.client,
    runtime,
    events,
    host: await readHostInfo(paths.root),
    settings: config,
    registerNode: config.registerNode,
    port: server.port,
    leaseDurationSeconds: config.nodeLeaseDurationSeconds,
    updateFrequencyMs: config.nodeStatusUpdateFrequencyMs,
    reportFrequencyMs: config.nodeStatusReportFrequencyMs,
    problems: () => [pleg.problem()].filter((problem) => problem !== undefined),
    onPodCidrs: (podCidrs) => {
      runtime.setPodCidr(ctx, podCidrs.join(',')).catch((err: unknown) => ctx.log.warn({ err, podCidrs }, 'the runtime did not take the pod addresses'));
    },
  });
  cluster.knowNode(() => node.node);
  const follow = async (): Promise<void> => {
    // Pods need the service variables of those that were there before them.
    const services = Promise.withResolvers<void>();
    const followed = cluster.followServices(ctx, services.resolve);
    const registered = node.run(ctx);
    await Promise.race([services.promise, followed]);
    await Promise.allSettled([followed, registered, cluster.followPods(ctx, sources.sink('api'), (mirror) => followMirror(ctx, parts, mirror))]);
    await server.close();
  };
  return { done: follow() };
}

/** The static pod behind a mirror that came, changed or went looks after it; one without a pod is removed. */
function followMirror(ctx: Ctx, { cluster, sources, status, workers }: NodeParts, mirror: Pod): void {
  const pod = workers.pods().find((each) => isStaticPod(each) && podKey(each) === podKey(mirror));
  if (pod === undefined) {
    if (sources.hasSeen('file')) cluster.mirrors.remove(ctx, mirror).catch((err: unknown) => ctx.log.warn({ err, pod: podKey(mirror) }, 'orphan mirror pod not removed'));
    return;
  }
  if (cluster.mirrors.of(pod) === undefined || mirror.metadata?.deletionTimestamp !== undefined) workers.wake(podUid(pod));
  else status.seen({ ...pod, status: mirror.status ?? {} });
}

function serverBackend({ config, runtime, workers, status, pleg }: NodeParts): ServerBackend {
  const withStatus = (pod: Pod): Pod => {
    const now = status.get(podUid(pod));
    return now === undefined ? pod : { ...pod, status: now };
  };
  return {
    pods: () => workers.pods().map(withStatus),
    runningPods: async (ctx) => [...(await runtime.listPods(ctx)).values()].filter(({ containers }) => containers.some(({ state }) => state === 'running')).map(podOfRuntime),
    findPod: (namespace, name) => {
      const found = workers.pods().find((pod) => podNamespace(pod) === namespace && podName(pod) === name);
      return found === undefined ? undefined : withStatus(found);
    },
    runningContainer: async (ctx, uid, name) => newest((await runtime.listPods(ctx)).get(uid)?.containers.filter((each) => each.name === name && each.state === 'running')),
    readySandbox: async (ctx, uid) => newest((await runtime.listPods(ctx)).get(uid)?.sandboxes.filter(({ ready }) => ready)),
    runtime,
    containerLog: async (ctx, containerId) => {
      const id = containerId.replace(/^[^:]+:\/\//, '');
      const find = () => runtime.container(ctx, id);
      const found = await find();
      if (found === undefined || found.logPath === '') return undefined;
      return { path: found.logPath, isRunning: async () => (await find())?.state === 'running' };
    },
    configz: () => ({ apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration', ...config, kubeconfig: undefined }),
    syncLoopProblem: () => pleg.problem(),
  };
}

const newest = (all: readonly { readonly id: string; readonly createdAtNs: bigint }[] = []): string | undefined =>
  all.reduce<(typeof all)[number] | undefined>((best, each) => (best === undefined || each.createdAtNs > best.createdAtNs ? each : best), undefined)?.id;
