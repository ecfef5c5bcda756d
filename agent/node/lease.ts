/** The node's lease: renewed every few seconds, it is what tells the control plane that we live. */
import { setTimeout as sleep } from 'node:timers/promises';
import { nowNs } from '#host/clock.ts';
import { withTimeout } from '#host/ctx.ts';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { isConflict, isNotFound } from '../kube/api-error.ts';
import type { KubeClient } from '../kube/client.ts';
import { nodeLeasePath, nodeLeasesPath } from '../kube/resource-path.ts';
import type { Lease } from '../kube/types.ts';

export interface LeaseOptions {
  readonly nodeName: string;
  /** Owner of the lease; it goes when the Node goes. */
  readonly nodeUid: () => string | undefined;
  readonly durationSeconds: number;
}

/** Source: component-helpers apimachinery/lease: renewed after a quarter of its duration, ±4 %. */
const renewFraction = 0.25;
const jitter = 0.04;
const tries = 5;
const firstDelayMs = 100;
const longestDelayMs = 7_000;

/** Runs until the context ends; never throws for what the API server does. */
export async function keepLease(ctx: Ctx, client: KubeClient, options: LeaseOptions): Promise<void> {
  const renewMs = options.durationSeconds * 1000 * renewFraction;
  let latest: Lease | undefined;
  let lastProblem = '';
  let failures = 0;
  while (!ctx.signal.aborted) {
    try {
      latest = await renew(withTimeout(ctx, renewMs), client, options, latest);
      if (lastProblem !== '') ctx.log.info({ node: options.nodeName }, 'lease renewed again');
      failures = 0;
      lastProblem = '';
    } catch (err) {
      if (ctx.signal.aborted) return;
      latest = undefined;
      failures++;
      const problem = explain(err);
      if (problem !== lastProblem) ctx.log.warn({ err, node: options.nodeName }, 'lease not renewed, trying again');
      lastProblem = problem;
    }
    const delayMs = failures === 0 ? renewMs * (1 + jitter * Math.random()) : Math.min(firstDelayMs * 2 ** Math.min(failures - 1, 10), longestDelayMs);
    await sleep(delayMs, undefined, { signal: ctx.signal }).catch(() => undefined); // only the abort
  }
}

async function renew(ctx: Ctx, client: KubeClient, options: LeaseOptions, latest: Lease | undefined): Promise<Lease> {
  const path = nodeLeasePath(options.nodeName);
  let base = latest;
  for (let attempt = 1; ; attempt++) {
    try {
      base ??= await client.get<Lease>(ctx, path);
      return await client.replace<Lease>(ctx, path, renewed(base, options));
    } catch (error) {
      if (isNotFound(error)) return client.create<Lease>(ctx, nodeLeasesPath, renewed(undefined, options));
      if (!isConflict(error) || attempt === tries) throw error;
      base = undefined;
    }
  }
}

export function renewed(base: Lease | undefined, { nodeName, nodeUid, durationSeconds }: LeaseOptions): Lease {
  const uid = nodeUid();
  const ownerReferences = base?.metadata?.ownerReferences ?? (uid === undefined ? undefined : [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid }]);
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { ...base?.metadata, name: nodeName, namespace: 'kube-node-lease', ...(ownerReferences !== undefined && { ownerReferences }) },
    spec: { ...base?.spec, holderIdentity: nodeName, leaseDurationSeconds: durationSeconds, renewTime: microTime(nowNs()) },
  };
}

/** RFC 3339 with six digits: the API refuses three. */
export function microTime(atNs: bigint): string {
  const below = String((atNs % 1_000_000_000n) / 1000n).padStart(6, '0');
  return `${new Date(Number(atNs / 1_000_000n)).toISOString().slice(0, 19)}.${below}Z`;
}
