/** What a node of a cluster has beside a standalone one: the pod watch, statuses, events, services, runtime classes, the Node itself, the HTTPS server. */
import { detached, withTimeout, type Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import type { AgentConfig } from './config.ts';
import type { ServiceFacts } from './container-config/service-env.ts';
import { isApiError, isConflict, isNotFound } from './kube/api-error.ts';
import { createKubeClient, type KubeClient } from './kube/client.ts';
import { loadKubeconfig } from './kube/kubeconfig.ts';
import { podName, podNamespace, podUid } from './kube/pod-facts.ts';
import { podPath, podsPath, podStatusPath, servicesPath } from './kube/resource-path.ts';
import type { KubeObject, ObjectMeta, Pod } from './kube/types.ts';
import { listWatch } from './kube/watch.ts';
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
  /** Follows the pods of this node until the context ends. */
  followPods(ctx: Ctx, sink: PodSink): Promise<void>;
  followServices(ctx: Ctx, seen: () => void): Promise<void>;
  services(): readonly ServiceFacts[];
  /** The CRI's name of a pod's runtime. Throws Fault('not-found') for a RuntimeClass that does not exist. */
  runtimeHandler(ctx: Ctx, pod: Pod): Promise<string>;
}

export async function connectCluster(config: AgentConfig & { kubeconfig: string }): Promise<Cluster> {
  const client = createKubeClient(await loadKubeconfig(config.kubeconfig));
  let services: ServiceFacts[] = [];
  return {
    client,
    status: statusApi(client),
    // The Node authorizer wants exactly this selector.
    followPods: (ctx, sink) => listWatch<Pod>(ctx, client, { path: podsPath, fieldSelector: `spec.nodeName=${config.nodeName}` }, sink),
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
function statusApi(client: KubeClient): StatusApi {
  return {
    patchStatus: async (ctx, pod, body) => {
      try {
        return await client.patch<Pod>(withTimeout(ctx, writeTimeoutMs), podStatusPath(podNamespace(pod), podName(pod)), 'strategic', body);
      } catch (error) {
        // Another pod has its name now: there is nobody to tell.
        if (isNotFound(error) || isUidConflict(error)) return undefined;
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
