/** What a node of a cluster has beside a standalone one: the pod watch, statuses, events, services, runtime classes, the Node itself, the HTTPS server. */
import { detached, withTimeout, type Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { AgentConfig } from './config.ts';
import type { ServiceFacts } from './container-config/service-env.ts';
import { isApiError, isConflict, isNotFound } from './kube/api-error.ts';
import { createKubeClient, type KubeClient } from './kube/client.ts';
import { loadKubeconfig } from './kube/kubeconfig.ts';
import { isMirrorPod, isStaticPod, podKey, podName, podNamespace, podUid } from './kube/pod-facts.ts';
import { podPath, podsPath, podStatusPath, servicesPath } from './kube/resource-path.ts';
import type { KubeObject, Node, ObjectMeta, Pod } from './kube/types.ts';
import { listWatch } from './kube/watch.ts';
import { MirrorPods } from './pod/mirror.ts';
import type { PodSink } from './pod/sources.ts';
import type { StatusApi } from './status/writer.ts';

interface Service extends KubeObject {
  spec?: { clusterIP?: string; ports?: ServiceFacts['ports'] };
}

interface RuntimeClass {
  metadata?: ObjectMeta;
  handler?: string;
}

export interface Cluster {
  readonly client: KubeClient;
  readonly status: StatusApi;
  readonly mirrors: MirrorPods;
  /** The Node as last seen, once `knowNode` was told how to see it. */
  node(): Node | undefined;
  knowNode(node: () => Node | undefined): void;
  /** Follows the pods of this node until the context ends; mirrors go to `mirrorSeen`. */
  followPods(ctx: Ctx, sink: PodSink, mirrorSeen: (mirror: Pod) => void): Promise<void>;
  followServices(ctx: Ctx, seen: () => void): Promise<void>;
  services(): readonly ServiceFacts[];
  /** The CRI's name of a pod's runtime. Throws Fault('not-found') for a RuntimeClass that does not exist. */
  runtimeHandler(ctx: Ctx, pod: Pod): Promise<string>;
}

export async function connectCluster(config: AgentConfig & { kubeconfig: string }): Promise<Cluster> {
  const client = createKubeClient(await loadKubeconfig(config.kubeconfig));
  let services: ServiceFacts[] = [];
  let node: () => Node | undefined = () => undefined;
  const mirrors = new MirrorPods({ client, nodeName: config.nodeName, nodeUid: () => node()?.metadata?.uid });
  return {
    client,
    status: statusApi(client, mirrors),
    mirrors,
    node: () => node(),
    knowNode: (see) => void (node = see),
    // The Node authorizer wants exactly this selector.
    followPods: (ctx, sink, mirrorSeen) => listWatch<Pod>(ctx, client, { path: podsPath, fieldSelector: `spec.nodeName=${config.nodeName}` }, withoutMirrors(sink, mirrors, mirrorSeen)),
    followServices: (ctx, seen) => {
      const known = new Map<string, ServiceFacts>();
      const publish = (): void => {
        services = [...known.values()];
      };
      const put = (service: Service): void => void known.set(service.metadata?.uid ?? '', factsOf(service));
      return listWatch<Service>(ctx, client, { path: servicesPath }, {
        replace: (items) => {
          known.clear();
          items.forEach(put);
          publish();
          seen();
        },
        upsert: (service) => {
          put(service);
          publish();
        },
        remove: (service) => {
          known.delete(service.metadata?.uid ?? '');
          publish();
        },
      });
    },
    services: () => services,
    runtimeHandler: (ctx, pod) => handlerOf(ctx, client, pod),
  };
}

/** Mirrors are told apart from pods at the door: nothing else of the agent must take one for work. */
function withoutMirrors(sink: PodSink, mirrors: MirrorPods, mirrorSeen: (mirror: Pod) => void): PodSink {
  const see = (mirror: Pod): void => {
    mirrors.seen(mirror);
    mirrorSeen(mirror);
  };
  return {
    replace: (pods) => {
      const listed = pods.filter(isMirrorPod);
      mirrors.forgetOthers(new Set(listed.map(podKey)));
      listed.forEach(see);
      sink.replace(pods.filter((pod) => !isMirrorPod(pod)));
    },
    upsert: (pod) => (isMirrorPod(pod) ? see(pod) : sink.upsert(pod)),
    remove: (pod) => {
      if (!isMirrorPod(pod)) return sink.remove(pod);
      mirrors.gone(pod);
      mirrorSeen(pod);
    },
  };
}

const factsOf = ({ metadata, spec }: Service): ServiceFacts => ({
  namespace: metadata?.namespace ?? '',
  name: metadata?.name ?? '',
  clusterIP: spec?.clusterIP,
  ports: spec?.ports ?? [],
});

async function handlerOf(ctx: Ctx, client: KubeClient, pod: Pod): Promise<string> {
  const name = pod.spec?.runtimeClassName;
  if (name === undefined || name === '') return '';
  try {
    const found = await client.get<RuntimeClass>(ctx, `/apis/node.k8s.io/v1/runtimeclasses/${encodeURIComponent(name)}`);
    return found.handler ?? '';
  } catch (error) {
    if (isNotFound(error)) throw new Fault('not-found', `RuntimeClass.node.k8s.io ${JSON.stringify(name)} not found`, error);
    throw error;
  }
}

const writeTimeoutMs = 30_000;

/** The shapes NodeRestriction allows: status patches, and deletes of pods that are ours. */
function statusApi(client: KubeClient, mirrors: MirrorPods): StatusApi {
  return {
    patchStatus: async (ctx, pod, body) => {
      const mirror = isStaticPod(pod) ? mirrors.of(pod) : undefined;
      if (isStaticPod(pod) && mirror === undefined) return pod; // told when there is a mirror
      try {
        const addressed = mirror === undefined ? body : { ...body, metadata: { uid: podUid(mirror) } };
        const patched = await client.patch<Pod>(withTimeout(ctx, writeTimeoutMs), podStatusPath(podNamespace(pod), podName(pod)), 'strategic', addressed);
        return mirror === undefined ? patched : pod;
      } catch (error) {
        // Another pod has its name now: there is nobody to tell. A mirror comes back.
        if (isNotFound(error) || isUidConflict(error)) return mirror === undefined ? undefined : pod;
        throw error;
      }
    },
    remove: async (ctx, pod) => {
      try {
        await client.delete(detached(ctx, writeTimeoutMs), podPath(podNamespace(pod), podName(pod)), { gracePeriodSeconds: 0, uid: podUid(pod) });
      } catch (error) {
        if (!isNotFound(error) && !isUidConflict(error)) throw error;
      }
    },
  };
}

const isUidConflict = (error: unknown): boolean => (isConflict(error) || isApiError(error, 'Invalid')) && /uid/i.test(error instanceof Error ? error.message : '');
