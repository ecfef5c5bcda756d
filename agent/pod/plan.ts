/**
 * What to do for a pod now: (wanted × observed × back-off × now) → steps. Pure.
 *
 * Steps are carried out in order. After them the pod is looked at again, so a plan needs not to foresee everything.
 * Source: kubelet 1.37 pkg/kubelet/kuberuntime computePodActions.
 */
import { containerHash } from '../container-config/hash.ts';
import { newestContainer, type ObservedContainer, type ObservedPod } from '../cri/observed.ts';
import { appContainers, ephemeralContainers, initContainers, podText, podUid } from '../kube/pod-facts.ts';
import type { Container, Pod } from '../kube/types.ts';
import { restartsAfter, shouldStart } from '../status/restart.ts';
import { sandboxVerdict } from '../status/sandbox-verdict.ts';
import { goSeconds, type CrashBackOff } from './crash-back-off.ts';
import { planInit } from './plan-init.ts';

export type StartKind = 'init' | 'app' | 'ephemeral';

export type Step =
  /** Everything of the pod stops, its sandbox too; `announce` says it in an event as well. */
  | { readonly do: 'kill-pod'; readonly announce: boolean; readonly why: string }
  | { readonly do: 'kill'; readonly container: string; readonly id: string; readonly why: string }
  | { readonly do: 'make-sandbox'; readonly attempt: number; readonly why: string }
  | { readonly do: 'start'; readonly container: string; readonly kind: StartKind; readonly why: string }
  /** Not yet: the reason goes into the status and an event. */
  | { readonly do: 'hold'; readonly container: string; readonly message: string; readonly why: string };

export interface PodPlan {
  readonly steps: readonly Step[];
  /** When something becomes due by time alone. */
  readonly comeBackInMs: number | undefined;
}

export interface PlanInputs {
  readonly pod: Pod;
  readonly observed: ObservedPod;
  readonly backOff: Pick<CrashBackOff, 'held'>;
  readonly nowMs: number;
  /** Results of liveness and startup probes: containers that must be killed, with the reason's words. */
  readonly unhealthy: ReadonlyMap<string, string>;
  /** A sidecar with a startup probe counts as started when it succeeded. */
  readonly startedByProbe: (containerId: string) => boolean | undefined;
}

export const backOffKey = (pod: Pod, container: Container): string => `${podUid(pod)}/${container.name}/${container.image ?? ''}`;

export function planPod(inputs: PlanInputs): PodPlan {
  const { pod, observed } = inputs;
  const sandbox = sandboxVerdict(pod, observed);
  if (sandbox.problem !== undefined) return planSandbox(inputs, sandbox.attempt, sandbox.problem);
  const ephemeral: Step[] = ephemeralContainers(pod)
    .filter(({ name }) => newestContainer(observed, name) === undefined)
    .map(({ name }) => ({ do: 'start', container: name, kind: 'ephemeral', why: 'not started yet' }));
  const init = planInit(inputs);
  if (init.failed !== undefined) return { steps: [{ do: 'kill-pod', announce: false, why: init.failed }], comeBackInMs: undefined };
  if (!init.done) return finish(inputs, [...init.kills, ...ephemeral], init.starts);
  const app = planApp(inputs);
  if (app.kept === 0 && app.starts.length === 0) {
    const running = observed.containers.some(({ state }) => state === 'running' || state === 'unknown');
    const steps: Step[] = running || observed.sandboxes.some(({ ready }) => ready) ? [{ do: 'kill-pod', announce: false, why: 'all containers are done' }] : [];
    return { steps, comeBackInMs: undefined };
  }
  return finish(inputs, [...init.kills, ...app.kills, ...ephemeral], [...init.starts, ...app.starts]);
}

/** A start that is wanted; whether it may happen now is the back-off's to say. */
export interface WantedStart {
  readonly container: Container;
  readonly kind: StartKind;
  readonly why: string;
}

function planSandbox(inputs: PlanInputs, attempt: number, problem: string): PodPlan {
  const { pod, observed } = inputs;
  const isFirst = observed.sandboxes.length === 0;
  const kill: Step[] = isFirst && observed.containers.length === 0 ? [] : [{ do: 'kill-pod', announce: false, why: problem }];
  const none: PodPlan = { steps: observed.sandboxes.some(({ ready }) => ready) ? kill : [], comeBackInMs: undefined };
  const never = pod.spec?.restartPolicy === 'Never' && !appContainers(pod).some(({ restartPolicy, restartPolicyRules }) => restartPolicy !== undefined || restartPolicyRules !== undefined);
  if (never && attempt !== 0 && observed.containers.length > 0) return none;
  const toStart = appContainers(pod).filter((container) => {
    const newest = newestContainer(observed, container.name);
    return newest === undefined || newest.state !== 'exited' || restartsAfter(pod, container, newest.exitCode);
  });
  const everRan = appContainers(pod).some(({ name }) => newestContainer(observed, name) !== undefined);
  if (toStart.length === 0 && everRan) return none;
  const announced = kill.map((step): Step => (step.do === 'kill-pod' ? { ...step, announce: true } : step));
  const make: Step = { do: 'make-sandbox', attempt, why: problem };
  const [firstInit] = initContainers(pod);
  const starts: WantedStart[] =
    firstInit === undefined
      ? toStart.map((container) => ({ container, kind: 'app', why: 'new sandbox' }))
      : [{ container: firstInit, kind: 'init', why: 'new sandbox' }];
  return finish(inputs, [...announced, make], starts);
}

interface AppPlan {
  readonly kills: Step[];
  readonly starts: WantedStart[];
  readonly kept: number;
}

function planApp({ pod, observed, unhealthy }: PlanInputs): AppPlan {
  const plan: AppPlan = { kills: [], starts: [], kept: 0 };
  let kept = 0;
  for (const container of appContainers(pod)) {
    const newest = newestContainer(observed, container.name);
    if (newest?.state !== 'running') {
      if (!shouldStart(pod, container, observed)) continue;
      if (newest?.state === 'unknown') plan.kills.push({ do: 'kill', container: container.name, id: newest.id, why: 'Container is in "unknown" state, try killing it before restart' });
      plan.starts.push({ container, kind: 'app', why: newest === undefined ? 'not started yet' : `ended with exit code ${newest.exitCode}` });
      continue;
    }
    const reason = killReason(container, newest, unhealthy);
    if (reason === undefined) {
      kept += 1;
      continue;
    }
    const restart = reason.always || (container.restartPolicy ?? pod.spec?.restartPolicy) !== 'Never';
    plan.kills.push({ do: 'kill', container: container.name, id: newest.id, why: restart ? `${reason.text}, will be restarted` : reason.text });
    if (restart) plan.starts.push({ container, kind: 'app', why: reason.text });
  }
  return { ...plan, kept };
}

function killReason(container: Container, running: ObservedContainer, unhealthy: ReadonlyMap<string, string>): { text: string; always: boolean } | undefined {
  const { hash } = running.notes;
  if (hash !== undefined && hash !== containerHash(container)) return { text: `Container ${container.name} definition changed`, always: true };
  const text = unhealthy.get(running.id);
  return text === undefined ? undefined : { text, always: false };
}

/** Starts that are held back become notes; the earliest of them says when to come back. */
function finish({ pod, observed, backOff, nowMs }: PlanInputs, first: readonly Step[], starts: readonly WantedStart[]): PodPlan {
  const steps: Step[] = [...first];
  let comeBackInMs: number | undefined;
  for (const { container, kind, why } of starts) {
    const exited = observed.containers.find(({ name, state }) => name === container.name && state === 'exited');
    const held = exited === undefined ? undefined : backOff.held(backOffKey(pod, container), Number(exited.finishedAtNs / 1_000_000n), nowMs);
    if (held === undefined) {
      steps.push({ do: 'start', container: container.name, kind, why });
      continue;
    }
    const message = `back-off ${goSeconds(held.delayMs)} restarting failed container=${container.name} pod=${podText(pod)}`;
    steps.push({ do: 'hold', container: container.name, message, why });
    comeBackInMs = Math.min(comeBackInMs ?? Number.POSITIVE_INFINITY, held.leftMs);
    if (kind === 'init' && container.restartPolicy !== 'Always') break; // the ones after it wait for it
  }
  return { steps, comeBackInMs };
}
