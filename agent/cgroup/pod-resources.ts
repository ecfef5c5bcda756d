/** Pure: what a pod as a whole requests and may use, from its containers, overhead and pod-level resources. Source: k8s.io/component-helpers/resource v0.37. */
import { parseQuantity, type Nanos } from '../kube/quantity.ts';
import { appContainers, initContainers, isSidecar } from '../kube/pod-facts.ts';
import type { Pod, ResourceRequirements } from '../kube/types.ts';

/** Resource name (`cpu`, `memory`, `hugepages-2Mi`, …) → amount. */
export type Amounts = ReadonlyMap<string, Nanos>;
export type Side = 'requests' | 'limits';

function amountsIn(list: { readonly [name: string]: string } | undefined): Map<string, Nanos> {
  const amounts = new Map<string, Nanos>();
  for (const [name, text] of Object.entries(list ?? {})) {
    const amount = parseQuantity(text);
    if (amount !== undefined) amounts.set(name, amount);
  }
  return amounts;
}

/** One side of a container's resources. An absent request is the limit, as the API server writes it (static pods may come without such defaults). */
export function amountsOf(resources: ResourceRequirements | undefined, side: Side): Amounts {
  return side === 'limits' ? amountsIn(resources?.limits) : new Map([...amountsIn(resources?.limits), ...amountsIn(resources?.requests)]);
}

function add(sum: Map<string, Nanos>, more: Amounts): void {
  for (const [name, amount] of more) sum.set(name, (sum.get(name) ?? 0n) + amount);
}

function raise(sum: Map<string, Nanos>, least: Amounts): void {
  for (const [name, amount] of least) if (amount > (sum.get(name) ?? -1n)) sum.set(name, amount);
}

/**
 * Containers run together and add up; an init container runs with the sidecars started before it and nothing else, so the most demanding
 * of these moments counts when it exceeds the sum (KEP-753, "Exposing pod resource requirements").
 */
function sumOfContainers(pod: Pod, side: Side): Map<string, Nanos> {
  const running = new Map<string, Nanos>();
  for (const container of appContainers(pod)) add(running, amountsOf(container.resources, side));
  const sidecars = new Map<string, Nanos>();
  const starting = new Map<string, Nanos>();
  for (const container of initContainers(pod)) {
    const own = amountsOf(container.resources, side);
    if (isSidecar(container)) {
      add(running, own);
      add(sidecars, own);
      raise(starting, sidecars);
    } else {
      const moment = new Map(sidecars);
      add(moment, own);
      raise(starting, moment);
    }
  }
  raise(running, starting);
  return running;
}

const isPodLevel = (name: string): boolean => name === 'cpu' || name === 'memory' || name.startsWith('hugepages-');

/** True when `spec.resources` says something that counts for the pod as a whole (KEP-2837). */
export const hasPodLevelResources = (pod: Pod): boolean =>
  Object.keys({ ...pod.spec?.resources?.requests, ...pod.spec?.resources?.limits }).some(isPodLevel);

/** Requests count the overhead always, limits only where there is one. */
export function podAmounts(pod: Pod, side: Side): Amounts {
  const sum = sumOfContainers(pod, side);
  if (hasPodLevelResources(pod)) {
    for (const [name, amount] of amountsOf(pod.spec?.resources, side)) if (isPodLevel(name)) sum.set(name, amount);
  }
  for (const [name, amount] of amountsIn(pod.spec?.overhead)) {
    if (side === 'requests' || (sum.get(name) ?? 0n) > 0n) sum.set(name, (sum.get(name) ?? 0n) + amount);
  }
  return sum;
}
