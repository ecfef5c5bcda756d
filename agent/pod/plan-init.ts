/** Where a pod is in its init containers: which is next, which sidecars run. Source: kubelet 1.37 computeInitContainerActions. */
import { containerHash } from '../container-config/hash.ts';
import { activeContainer, type ObservedContainer } from '../cri/observed.ts';
import { appContainers, initContainers, isSidecar } from '../kube/pod-facts.ts';
import type { Container } from '../kube/types.ts';
import { restartsAfter } from '../status/restart.ts';
import type { PlanInputs, Step, WantedStart } from './plan.ts';

export interface InitPlan {
  readonly kills: Step[];
  /** In the order of the spec. */
  readonly starts: WantedStart[];
  /** The app containers may start. */
  readonly done: boolean;
  /** An init container has failed for good. */
  readonly failed: string | undefined;
}

/**
 * Goes from the last init container backwards: the first one with an instance in this sandbox tells how far we are, because
 * the records of earlier ones may be gone already (so an agent that restarts finds its place again).
 */
export function planInit(inputs: PlanInputs): InitPlan {
  const { pod, observed } = inputs;
  const all = initContainers(pod);
  const appStarted = appContainers(pod).some(({ name }) => {
    const found = activeContainer(observed, name);
    return found !== undefined && found.state !== 'created';
  });
  const plan: { kills: Step[]; starts: WantedStart[]; done: boolean } = { kills: [], starts: [], done: all.length === 0 || appStarted };
  let passed = plan.done;
  for (const [index, container] of [...all.entries()].reverse()) {
    const found = activeContainer(observed, container.name);
    if (found === undefined) {
      if (passed && isSidecar(container)) start(plan.starts, container, 'a sidecar that has no instance');
      continue;
    }
    if (passed && !isSidecar(container)) continue;
    const verdict = judge(inputs, container, found);
    if (verdict.failed !== undefined) return { kills: [], starts: [], done: false, failed: verdict.failed };
    if (verdict.kill !== undefined) plan.kills.push({ do: 'kill', container: container.name, id: found.id, why: verdict.kill });
    if (verdict.complete && !passed) {
      const next = all[index + 1];
      if (next === undefined) plan.done = true;
      else start(plan.starts, next, `init container ${container.name} is complete`);
    }
    if (verdict.start !== undefined) start(plan.starts, container, verdict.start);
    passed = true;
  }
  const [first] = all;
  if (!passed && first !== undefined) start(plan.starts, first, 'the first init container');
  return { ...plan, starts: plan.starts.reverse(), failed: undefined };
}

function start(starts: WantedStart[], container: Container, why: string): void {
  if (!starts.some((other) => other.container.name === container.name)) starts.push({ container, kind: 'init', why });
}

interface Verdict {
  /** The next one may start. */
  readonly complete: boolean;
  readonly start?: string;
  readonly kill?: string;
  readonly failed?: string;
}

function judge(inputs: PlanInputs, container: Container, found: ObservedContainer): Verdict {
  const sidecar = isSidecar(container);
  switch (found.state) {
    case 'created':
      return { complete: false, start: 'it was made and never started' };
    case 'running':
      return sidecar ? judgeRunningSidecar(inputs, container, found) : { complete: false };
    case 'exited':
      if (sidecar) return { complete: false, start: `ended with exit code ${found.exitCode}` };
      if (found.exitCode === 0) return { complete: true };
      if (!restartsAfter(inputs.pod, container, found.exitCode)) return { complete: false, failed: `init container ${container.name} failed` };
      return { complete: false, start: `failed with exit code ${found.exitCode}` };
    case 'unknown':
      if (!sidecar && !restartsAfter(inputs.pod, container, 137)) return { complete: false, failed: `init container ${container.name} is lost` };
      return { complete: false, start: 'it is lost', kill: 'Init container is in "unknown" state, try killing it before restart' };
    default:
      return found.state satisfies never;
  }
}

function judgeRunningSidecar({ startedByProbe, unhealthy }: PlanInputs, container: Container, found: ObservedContainer): Verdict {
  const sick = unhealthy.get(found.id);
  if (sick !== undefined) return { complete: false, kill: `Init ${sick.charAt(0).toLowerCase()}${sick.slice(1)}`, start: sick };
  if (container.startupProbe !== undefined && startedByProbe(found.id) !== true) return { complete: false };
  if (found.notes.hash !== undefined && found.notes.hash !== containerHash(container)) {
    return { complete: true, kill: `Init container ${container.name} definition changed`, start: 'its definition changed' };
  }
  return { complete: true };
}
