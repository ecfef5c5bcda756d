/** How long each container of a pod that ends gets, and which wait for which. Pure. */
import { initContainers, isSidecar } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';

/** StopContainer is never called with less, or the runtime could not even ask. */
const leastStopSeconds = 2;
const defaultGraceSeconds = 30;

/** Of a pod that ends for another reason than a deletion. */
export const podGraceSeconds = (pod: Pod): number => pod.metadata?.deletionGracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? defaultGraceSeconds;

/** For StopContainer, after a preStop hook took its part of the time. */
export const stopSeconds = (graceSeconds: number, spentSeconds: number): number => Math.max(leastStopSeconds, Math.ceil(graceSeconds - spentSeconds));

/**
 * Names in the order of stopping: all of one group at once, a group after the one before it has stopped.
 * Sidecars serve the others, and each other in the order of the spec, so they go last and backwards.
 */
export function stopOrder(pod: Pod, running: readonly string[]): string[][] {
  const sidecars = initContainers(pod).filter(isSidecar).map(({ name }) => name);
  const main = running.filter((name) => !sidecars.includes(name));
  const groups = sidecars.toReversed().filter((name) => running.includes(name)).map((name) => [name]);
  return main.length === 0 ? groups : [main, ...groups];
}
