/** One pass over one pod: what is, what is said of it, what is to be done. */
import { mkdir, rm } from 'node:fs/promises';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { ObservedPod } from '../cri/observed.ts';
import { isStaticPod, isTerminalPhase, podKey, podName, podNamespace, podUid, usesHostNetwork } from '../kube/pod-facts.ts';
import { podReference } from '../kube/references.ts';
import type { Pod, PodStatus, Secret } from '../kube/types.ts';
import { endedStatus, podStatus } from '../status/pod-status.ts';
import { withTerminationMessages } from '../status/termination-message.ts';
import { applyPlan, type Prepared } from './apply.ts';
import { planPod } from './plan.ts';
import type { PodDeps, PodMemory } from './pod-deps.ts';
import { logLink } from './start-container.ts';
import { killPod } from './terminate.ts';

export type PassResult =
  /** Look again at once, after a time, or when something happens. */
  | { readonly then: 'again'; readonly inMs: number | undefined }
  /** This part of the pod's life is over: ended by itself, all stopped, all cleaned up. */
  | { readonly then: 'ended' | 'stopped' | 'cleaned' };

const networkRetryMs = 1000;
const again = (inMs: number | undefined): PassResult => ({ then: 'again', inMs });

async function observePod(ctx: Ctx, deps: PodDeps, pod: Pod): Promise<ObservedPod> {
  return withTerminationMessages(ctx, await deps.runtime.observe(ctx, podUid(pod)));
}

function statusNow(deps: PodDeps, pod: Pod, memory: PodMemory, observed: ObservedPod, isEnding: boolean): PodStatus {
  return podStatus({
    pod,
    observed,
    notes: memory.notes,
    runtimeName: deps.runtime.name,
    probes: deps.probes,
    previous: deps.status.get(podUid(pod)) ?? pod.status ?? {},
    hostIPs: deps.node().hostIPs,
    isEnding,
    nowMs: deps.nowMs(),
    ...(memory.failed !== undefined && { failed: memory.failed }),
  });
}

/** A pod that should run. */
export async function syncPod(ctx: Ctx, deps: PodDeps, pod: Pod, memory: PodMemory): Promise<PassResult> {
  // 1. May it run here, and for how long yet?
  judge(deps, pod, memory);
  // 2. What is.
  const observed = await observePod(ctx, deps, pod);
  // 3. Say so.
  const status = statusNow(deps, pod, memory, observed, false);
  const mayRun = observed.containers.some(({ state }) => state === 'running');
  // A terminal phase is not told while something runs: the controllers would start a replacement beside it.
  if (!isTerminalPhase(status.phase) || !mayRun) deps.status.set(pod, status);
  if (isTerminalPhase(status.phase)) return { then: 'ended' };
  if (isStaticPod(pod)) await deps.mirrors?.ensure(ctx, pod);
  const deadlineMs = deadlineLeftMs(pod, status, deps.nowMs());
  // 4. Without a network only pods on the host's can start.
  const problem = usesHostNetwork(pod) ? undefined : deps.networkProblem();
  if (problem !== undefined) {
    deps.events.event(podReference(pod), 'Warning', 'NetworkNotReady', `network is not ready: ${problem}`);
    return again(networkRetryMs);
  }
  // 5. What to do.
  const plan = planPod({ pod, observed, backOff: deps.backOff, nowMs: deps.nowMs(), unhealthy: memory.unhealthy, startedByProbe: (id) => deps.probes.started(id) });
  // 6. Everything its containers need. Volumes are refreshed at every pass, for ConfigMaps and Secrets that changed.
  const prepared = await prepare(ctx, deps, pod);
  // 7. Do it.
  const applied = await applyPlan(ctx, deps, {
    pod, plan, observed, memory, prepared,
    sandboxMade: (now) => deps.status.set(pod, statusNow(deps, pod, memory, now, false)),
  });
  // 8. Look again instead of assuming.
  if (applied.changed && applied.retryInMs === undefined) return again(0);
  if (applied.changed || plan.steps.some((step) => step.do === 'hold')) {
    deps.status.set(pod, statusNow(deps, pod, memory, await observePod(ctx, deps, pod), false));
  }
  const due = [applied.retryInMs, plan.comeBackInMs, deadlineMs].filter((ms) => ms !== undefined);
  return again(due.length === 0 ? undefined : Math.min(...due));
}

/** Decides once and for all that the pod must fail: it may not run here, or its time is over. */
function judge(deps: PodDeps, pod: Pod, memory: PodMemory): void {
  if (memory.failed !== undefined) return;
  if (!memory.admitted) {
    const refusal = deps.status.get(podUid(pod)) === undefined && pod.status?.startTime === undefined ? deps.admit(pod) : undefined;
    memory.admitted = refusal === undefined;
    if (refusal !== undefined) {
      memory.failed = { reason: refusal.reason, message: `Pod was rejected: ${refusal.message}` };
      deps.events.event(podReference(pod), 'Warning', refusal.reason, refusal.message);
      return;
    }
  }
  const status = deps.status.get(podUid(pod)) ?? pod.status ?? {};
  if (deadlineLeftMs(pod, status, deps.nowMs()) === 0) {
    memory.failed = { reason: 'DeadlineExceeded', message: 'Pod was active on the node longer than the specified deadline' };
    deps.events.event(podReference(pod), 'Normal', memory.failed.reason, memory.failed.message);
  }
}

/** 0 when it is over, undefined when there is none. */
function deadlineLeftMs(pod: Pod, status: PodStatus, nowMs: number): number | undefined {
  const seconds = pod.spec?.activeDeadlineSeconds;
  if (seconds === undefined || status.startTime === undefined) return undefined;
  return Math.max(0, Date.parse(status.startTime) + seconds * 1000 - nowMs);
}

async function prepare(ctx: Ctx, deps: PodDeps, pod: Pod): Promise<Prepared> {
  const say = (reason: string, message: string): void => deps.events.event(podReference(pod), 'Warning', reason, message);
  const uid = podUid(pod);
  let cgroupParent = '';
  try {
    cgroupParent = (await deps.groups?.ensurePod(pod)) ?? '';
  } catch (cause) {
    say('FailedCreatePodContainer', `unable to ensure pod container exists: ${explain(cause)}`);
    throw cause;
  }
  try {
    for (const dir of [deps.paths.podDir(uid), deps.paths.podVolumesDir(uid)]) await mkdir(dir, { recursive: true, mode: 0o750 });
  } catch (cause) {
    say('Failed', `error making pod data directories: ${explain(cause)}`);
    throw cause;
  }
  try {
    const volumes = await deps.volumes.mount(ctx, pod);
    return { cgroupParent, volumes, pullSecrets: await pullSecrets(ctx, deps, pod) };
  } catch (cause) {
    if (ctx.signal.aborted) throw cause;
    for (const message of mountFailures(cause)) say('FailedMount', message);
    throw cause;
  }
}

/** One event per volume that could not be made. */
function mountFailures(cause: unknown): string[] {
  const failures = typeof cause === 'object' && cause !== null && 'failures' in cause && Array.isArray(cause.failures) ? cause.failures : [];
  const messages = failures.flatMap((failure: unknown) => (typeof failure === 'object' && failure !== null && 'message' in failure ? [String(failure.message)] : []));
  return messages.length === 0 ? [`Unable to attach or mount volumes: ${explain(cause)}`] : messages;
}

async function pullSecrets(ctx: Ctx, deps: PodDeps, pod: Pod): Promise<Secret[]> {
  const names = (pod.spec?.imagePullSecrets ?? []).flatMap(({ name }) => (name === undefined ? [] : [name]));
  const found = await Promise.all(names.map((name) => deps.objects.secret(ctx, podNamespace(pod), name).catch(() => undefined))); // told below, and the pull may work without
  const missing = names.filter((_, index) => found[index] === undefined);
  if (missing.length > 0) {
    deps.events.event(
      podReference(pod), 'Warning', 'FailedToRetrieveImagePullSecret',
      `Unable to retrieve some image pull secrets (${missing.join(', ')}); attempting to pull the image may not succeed.`,
    );
  }
  return found.filter((secret) => secret !== undefined);
}

/** A pod that must stop. */
export async function terminatePod(ctx: Ctx, deps: PodDeps, pod: Pod, memory: PodMemory, how: { graceSeconds: number; gone: boolean }): Promise<PassResult> {
  const before = await observePod(ctx, deps, pod);
  const say = (observed: ObservedPod): void => {
    const status = statusNow(deps, pod, memory, observed, true);
    if (!how.gone && !(isTerminalPhase(status.phase) && isRunning(observed))) deps.status.set(pod, status);
  };
  say(before);
  try {
    await killPod(ctx, deps, pod, before, how.graceSeconds);
  } catch (cause) {
    deps.events.event(podReference(pod), 'Warning', 'FailedKillPod', `error killing pod: ${explain(cause)}`);
    throw cause;
  }
  const after = await observePod(ctx, deps, pod);
  if (isRunning(after)) return again(networkRetryMs);
  say(after);
  return { then: 'stopped' };
}

const isRunning = (observed: ObservedPod): boolean => observed.containers.some(({ state }) => state === 'running' || state === 'unknown');

/**
 * A pod of which nothing runs: its volumes, cgroup and directories go. With `purge` (it was deleted) its containers, sandboxes
 * and logs go as well. May run again after a failure half-way.
 */
export async function cleanPod(ctx: Ctx, deps: PodDeps, pod: Pod, memory: PodMemory, how: { purge: boolean; gone: boolean }): Promise<PassResult> {
  const uid = podUid(pod);
  const observed = await observePod(ctx, deps, pod);
  if (!how.gone) deps.status.set(pod, endedStatus(statusNow(deps, pod, memory, observed, true), pod));
  await deps.volumes.unmount(ctx, uid);
  if (how.purge) {
    for (const { id, name } of observed.containers) {
      await deps.runtime.removeContainer(ctx, id);
      await rm(logLink(deps.paths, pod, { id, name }), { force: true });
    }
    for (const { id } of observed.sandboxes) {
      await deps.runtime.stopSandbox(ctx, id);
      await deps.runtime.removeSandbox(ctx, id);
    }
    await removeTree(deps.paths.podLogsDir({ namespace: podNamespace(pod), name: podName(pod), uid }));
    await removeTree(deps.paths.podDir(uid));
    deps.backOff.forget(`${uid}/`);
    deps.images.forget(uid);
    if (isStaticPod(pod)) await deps.mirrors?.drop(ctx, pod);
  }
  await deps.groups?.removePod(ctx, uid);
  ctx.log.info({ pod: podKey(pod), uid, purged: how.purge }, how.purge ? 'pod removed' : 'pod ended');
  return { then: 'cleaned' };
}

