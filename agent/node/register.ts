/** Makes the Node known to the API server, or puts its labels and annotations right if it already is. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { isApiError } from '../kube/api-error.ts';
import type { KubeClient } from '../kube/client.ts';
import { nodePath, nodesPath } from '../kube/resource-path.ts';
import type { Node } from '../kube/types.ts';

/** Source: kubelet pkg/kubelet/kubelet_node_status.go registerWithAPIServer. */
const firstDelayMs = 100;
const longestDelayMs = 7_000;

/** Tries until it is done or the context ends (then throws). Returns the Node as the server has it. */
export async function registerNode(ctx: Ctx, client: KubeClient, wanted: Node): Promise<Node> {
  let lastProblem = '';
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, longestDelayMs)) {
    ctx.signal.throwIfAborted();
    try {
      return await createOrReconcile(ctx, client, wanted);
    } catch (err) {
      ctx.signal.throwIfAborted();
      const problem = explain(err);
      if (problem !== lastProblem) ctx.log.warn({ err, node: wanted.metadata?.name }, 'node not registered, trying again');
      lastProblem = problem;
    }
    await sleep(delayMs, undefined, { signal: ctx.signal });
  }
}

async function createOrReconcile(ctx: Ctx, client: KubeClient, wanted: Node): Promise<Node> {
  try {
    const created = await client.create<Node>(ctx, nodesPath, wanted);
    ctx.log.info({ node: created.metadata?.name }, 'node registered');
    return created;
  } catch (error) {
    if (!isApiError(error, 'AlreadyExists')) throw error;
  }
  const path = nodePath(wanted.metadata?.name ?? '');
  const existing = await client.get<Node>(ctx, path);
  const labels = differing(existing.metadata?.labels, wanted.metadata?.labels);
  const annotations = differing(existing.metadata?.annotations, wanted.metadata?.annotations);
  if (labels === undefined && annotations === undefined) return existing;
  const patch = { metadata: { ...(labels !== undefined && { labels }), ...(annotations !== undefined && { annotations }) } };
  const patched = await client.patch<Node>(ctx, path, 'strategic', patch);
  ctx.log.info({ node: wanted.metadata?.name, labels, annotations }, 'node was registered before, metadata put right');
  return patched;
}

/** The wanted values that are not there yet; taints and owners are never touched: NodeRestriction forbids it. */
function differing(present: Readonly<Record<string, string>> = {}, wanted: Readonly<Record<string, string>> = {}): Record<string, string> | undefined {
  const changes = Object.entries(wanted).filter(([key, value]) => present[key] !== value);
  return changes.length === 0 ? undefined : Object.fromEntries(changes);
}
