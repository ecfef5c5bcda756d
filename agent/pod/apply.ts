/** Carries out the steps of a plan in their order. */
import { mkdir } from 'node:fs/promises';
import type { PodSandboxConfig } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { explain } from '#host/fault.ts';
import { podDns } from '../container-config/dns.ts';
import type { VolumePlace } from '../container-config/mounts.ts';
import { sandboxConfig } from '../container-config/sandbox.ts';
import type { ObservedPod } from '../cri/observed.ts';
import { StartError } from '../image/start-error.ts';
import { findContainer, isSidecar, podKey, podName, podNamespace, podText, podUid } from '../kube/pod-facts.ts';
import { containerReference, podReference } from '../kube/references.ts';
import type { Container, Pod, Secret } from '../kube/types.ts';
import { podGraceSeconds } from './grace.ts';
import { backOffKey, type PodPlan, type Step } from './plan.ts';
import type { PodDeps, PodMemory } from './pod-deps.ts';
import { startContainer } from './start-container.ts';
import { killContainer, killPod } from './terminate.ts';

export interface Prepared {
  readonly cgroupParent: string;
  readonly volumes: ReadonlyMap<string, VolumePlace>;
  readonly pullSecrets: readonly Secret[];
}

export interface Applied {
  /** Something was changed, or a start failed: look again. */
  readonly changed: boolean;
  /** A failed step is worth trying again then. */
  readonly retryInMs: number | undefined;
}

/** `observe` gives a fresh look after the sandbox was made; `sandboxMade` is told at once, before images are pulled. */
export interface ApplyRequest {
  readonly pod: Pod;
  readonly plan: PodPlan;
  readonly observed: ObservedPod;
  readonly memory: PodMemory;
  readonly prepared: Prepared;
  readonly sandboxMade: (observed: ObservedPod) => void;
}

/** Tried again this much later when nobody knows better. */
export const retryMs = 10_000;

/** Failed starts are noted for the status and do not stop the containers beside them; everything else that fails throws. */
export async function applyPlan(ctx: Ctx, deps: PodDeps, request: ApplyRequest): Promise<Applied> {
  const { pod, plan, memory } = request;
  let { observed } = request;
  let changed = false;
  let retryInMs: number | undefined;
  for (const step of plan.steps) {
    ctx.signal.throwIfAborted();
    if (step.do !== 'hold') ctx.log.debug({ pod: podKey(pod), uid: podUid(pod), step: step.do, why: step.why }, 'step');
    if (step.do === 'make-sandbox') {
      await makeSandbox(ctx, deps, request, step);
      observed = await deps.runtime.observe(ctx, podUid(pod));
      request.sandboxMade(observed);
      changed = true;
    } else if (step.do === 'start') {
      const failure = await start(ctx, deps, { ...request, observed }, step);
      changed = true;
      if (failure === undefined) continue;
      retryInMs = Math.min(retryInMs ?? Number.POSITIVE_INFINITY, failure.retryInMs ?? retryMs);
      if (blocksOthers(pod, step.container, step.kind)) break;
    } else if (step.do === 'hold') {
      hold(deps, pod, memory, step);
    } else {
      await kill(ctx, deps, request, observed, step);
      changed = true;
    }
  }
  return { changed, retryInMs };
}

/** What comes after an init container waits for it. */
function blocksOthers(pod: Pod, name: string, kind: string): boolean {
  const container = findContainer(pod, name);
  return kind === 'init' && container !== undefined && !isSidecar(container);
}

async function kill(ctx: Ctx, deps: PodDeps, { pod, memory }: ApplyRequest, observed: ObservedPod, step: Step & { do: 'kill' | 'kill-pod' }): Promise<void> {
  if (step.do === 'kill-pod') {
    if (step.announce) deps.events.event(podReference(pod), 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    await killPod(ctx, deps, pod, observed, podGraceSeconds(pod));
    return;
  }
  const container = observed.containers.find(({ id }) => id === step.id);
  if (container === undefined) return;
  memory.unhealthy.delete(container.id);
  await killContainer(ctx, deps, { pod, container, message: step.why, graceSeconds: podGraceSeconds(pod), podIP: observed.sandboxes[0]?.ips[0] });
}

function hold(deps: PodDeps, pod: Pod, memory: PodMemory, step: Step & { do: 'hold' }): void {
  memory.notes.set(step.container, { reason: 'CrashLoopBackOff', message: step.message });
  deps.events.event(containerReference(pod, step.container), 'Warning', 'BackOff', `Back-off restarting failed container ${step.container} in pod ${podText(pod)}`);
}

function configOfSandbox(deps: PodDeps, pod: Pod, attempt: number, cgroupParent: string): PodSandboxConfig {
  const { dns } = deps.node();
  return sandboxConfig(pod, {
    attempt,
    logDirectory: deps.paths.podLogsDir({ namespace: podNamespace(pod), name: podName(pod), uid: podUid(pod) }),
    cgroupParent,
    dns: podDns(pod, dns).config,
    clusterDomain: dns.clusterDomain,
  });
}

async function makeSandbox(ctx: Ctx, deps: PodDeps, { pod, prepared }: ApplyRequest, step: Step & { do: 'make-sandbox' }): Promise<void> {
  try {
    for (const { reason, message } of podDns(pod, deps.node().dns).warnings) deps.events.event(podReference(pod), 'Warning', reason, message);
    const config = configOfSandbox(deps, pod, step.attempt, prepared.cgroupParent);
    await mkdir(config.logDirectory, { recursive: true, mode: 0o755 });
    const handler = await deps.runtimeHandler(ctx, pod);
    const id = await deps.runtime.runSandbox(ctx, config, handler);
    ctx.log.info({ pod: podKey(pod), uid: podUid(pod), sandbox: id, attempt: step.attempt }, 'sandbox made');
  } catch (cause) {
    if (!ctx.signal.aborted) deps.events.event(podReference(pod), 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${explain(cause)}`);
    throw cause;
  }
}

async function start(ctx: Ctx, deps: PodDeps, request: ApplyRequest, step: Step & { do: 'start' }): Promise<StartError | undefined> {
  const { pod, observed, memory, prepared } = request;
  const container: Container | undefined = findContainer(pod, step.container);
  const [sandbox] = observed.sandboxes;
  if (container === undefined || sandbox === undefined) return undefined; // the next look will tell
  const exited = observed.containers.find(({ name, state }) => name === container.name && state === 'exited');
  if (exited !== undefined) deps.backOff.started(backOffKey(pod, container), Number(exited.finishedAtNs / 1_000_000n), deps.nowMs());
  try {
    await startContainer(ctx, deps, {
      pod,
      container,
      observed,
      sandbox: { id: sandbox.id, ips: sandbox.ips, config: configOfSandbox(deps, pod, sandbox.attempt, prepared.cgroupParent) },
      volumes: prepared.volumes,
      pullSecrets: prepared.pullSecrets,
    });
    memory.notes.delete(container.name);
    return undefined;
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    memory.notes.set(container.name, { reason: error.reason, message: error.message });
    ctx.log.info({ pod: podKey(pod), container: container.name, reason: error.reason, why: error.message }, 'container not started');
    return error;
  }
}
