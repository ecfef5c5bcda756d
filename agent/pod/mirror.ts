/**
 * Mirror pods: how the API server shows the static pods of a node. Made by the node, for looking at only: their status is ours to
 * write, and what is done to them there changes nothing here.
 */
import { withTimeout, type Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { isApiError, isNotFound } from '../kube/api-error.ts';
import type { KubeClient } from '../kube/client.ts';
import { configHashAnnotation, configMirrorAnnotation, isMirrorPod, podKey, podName, podNamespace, podUid } from '../kube/pod-facts.ts';
import { namespacePodsPath, podPath } from '../kube/resource-path.ts';
import type { Pod } from '../kube/types.ts';

export interface MirrorDeps {
  readonly client: Pick<KubeClient, 'create' | 'delete'>;
  readonly nodeName: string;
  /** NodeRestriction wants the Node as owner; undefined before it is registered. */
  readonly nodeUid: () => string | undefined;
}

const requestTimeoutMs = 30_000;

export class MirrorPods {
  readonly #deps: MirrorDeps;
  readonly #known = new Map<string, Pod>();
  readonly #complaints = new Map<string, string>();

  constructor(deps: MirrorDeps) {
    this.#deps = deps;
  }

  /** The mirror of a static pod, as the API server last showed it. */
  of(pod: Pod): Pod | undefined {
    const mirror = this.#known.get(podKey(pod));
    return mirror !== undefined && hashOf(mirror) === hashOf(pod) ? mirror : undefined;
  }

  seen(mirror: Pod): void {
    this.#known.set(podKey(mirror), mirror);
  }

  /** The whole list was read: what is not in it is gone. */
  forgetOthers(keys: ReadonlySet<string>): void {
    for (const key of this.#known.keys()) if (!keys.has(key)) this.#known.delete(key);
  }

  gone(mirror: Pod): void {
    if (podUid(this.#known.get(podKey(mirror)) ?? {}) === podUid(mirror)) this.#known.delete(podKey(mirror));
  }

  /** Makes the mirror, or makes it anew when it shows another pod or is being deleted. A refusal is logged once; the pod runs without. */
  async ensure(ctx: Ctx, pod: Pod): Promise<void> {
    const key = podKey(pod);
    try {
      const there = this.#known.get(key);
      if (there !== undefined && hashOf(there) === hashOf(pod) && there.metadata?.deletionTimestamp === undefined) return;
      if (there !== undefined) await this.remove(ctx, there);
      const uid = this.#deps.nodeUid();
      if (uid === undefined) return; // the next pass will find the Node registered
      this.seen(await this.#deps.client.create<Pod>(withTimeout(ctx, requestTimeoutMs), namespacePodsPath(podNamespace(pod)), mirrorOf(pod, { name: this.#deps.nodeName, uid })));
      this.#complaints.delete(key);
    } catch (error) {
      if (isApiError(error, 'AlreadyExists')) return; // the watch will show it
      const complaint = explain(error);
      if (this.#complaints.get(key) !== complaint && !ctx.signal.aborted) ctx.log.warn({ pod: key, why: complaint }, 'no mirror of the static pod');
      this.#complaints.set(key, complaint);
    }
  }

  /** The static pod has ended; a mirror of the one that follows it stays. */
  async drop(ctx: Ctx, pod: Pod): Promise<void> {
    const mirror = this.of(pod);
    if (mirror !== undefined) await this.remove(ctx, mirror);
  }

  /** Gone is success. */
  async remove(ctx: Ctx, mirror: Pod): Promise<void> {
    try {
      await this.#deps.client.delete(withTimeout(ctx, requestTimeoutMs), podPath(podNamespace(mirror), podName(mirror)), { gracePeriodSeconds: 0, uid: podUid(mirror) });
    } catch (error) {
      if (!isNotFound(error) && !isApiError(error, 'Conflict')) throw error;
    }
    this.gone(mirror);
  }
}

/** Of a mirror: of the pod that it shows. */
const hashOf = (pod: Pod): string | undefined => pod.metadata?.annotations?.[isMirrorPod(pod) ? configMirrorAnnotation : configHashAnnotation];

/** Source: kubelet pkg/kubelet/pod/mirror_client.go. */
function mirrorOf(pod: Pod, node: { name: string; uid: string }): Pod {
  const { uid: _uid, ...metadata } = pod.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...metadata,
      annotations: { ...metadata.annotations, [configMirrorAnnotation]: metadata.annotations?.[configHashAnnotation] ?? '' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid, controller: true }],
    },
    ...(pod.spec !== undefined && { spec: pod.spec }),
  };
}
