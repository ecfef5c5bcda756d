/** Ends the containers of a pod: hooks, grace, order. */
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { activeSandbox, type ObservedContainer, type ObservedPod } from '../cri/observed.ts';
import { findContainer } from '../kube/pod-facts.ts';
import { containerReference } from '../kube/references.ts';
import type { Pod } from '../kube/types.ts';
import { stopOrder, stopSeconds } from './grace.ts';
import { runHook } from './hooks.ts';
import type { PodDeps } from './pod-deps.ts';

type KillDeps = Pick<PodDeps, 'runtime' | 'events' | 'nowMs'>;

/** `message` is what the event Killing says. Returns when it has stopped. */
export async function killContainer(
  ctx: Ctx, deps: KillDeps, target: { pod: Pod; container: ObservedContainer; message: string; graceSeconds: number; podIP: string | undefined },
): Promise<void> {
  const { pod, container, message, graceSeconds } = target;
  deps.events.event(containerReference(pod, container.name), 'Normal', 'Killing', message);
  const startedMs = deps.nowMs();
  const spec = findContainer(pod, container.name);
  const hook = spec?.lifecycle?.preStop;
  if (spec !== undefined && hook !== undefined && graceSeconds > 0 && container.state === 'running') {
    try {
      await runHook(ctx, deps.runtime, hook, { container: spec, containerId: container.id, podIP: target.podIP }, graceSeconds * 1000);
    } catch (error) {
      deps.events.event(containerReference(pod, container.name), 'Warning', 'FailedPreStopHook', 'PreStopHook failed');
      ctx.log.info({ container: container.name, id: container.id, why: explain(error) }, 'preStop hook failed');
    }
  }
  await deps.runtime.stopContainer(ctx, container.id, stopSeconds(graceSeconds, (deps.nowMs() - startedMs) / 1000));
}

/** All that runs stops within `graceSeconds`, sidecars after the others; then the sandboxes. May run again until all is gone. */
export async function killPod(ctx: Ctx, deps: KillDeps, pod: Pod, observed: ObservedPod, graceSeconds: number): Promise<void> {
  const running = observed.containers.filter(({ state }) => state === 'running' || state === 'unknown' || state === 'created');
  const startedMs = deps.nowMs();
  const podIP = activeSandbox(observed)?.ips[0];
  const names = [...new Set(running.map(({ name }) => name))];
  for (const group of stopOrder(pod, names)) {
    const leftSeconds = Math.max(0, graceSeconds - (deps.nowMs() - startedMs) / 1000);
    const targets = running.filter(({ name }) => group.includes(name));
    await settle(targets.map((container) => killContainer(ctx, deps, { pod, container, message: `Stopping container ${container.name}`, graceSeconds: leftSeconds, podIP })));
  }
  await settle(observed.sandboxes.map(({ id }) => deps.runtime.stopSandbox(ctx, id)));
}

/** Waits for all, then throws what the first failure was. */
async function settle(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}
