/** Values of fieldRef and resourceFieldRef: what a pod may be told about itself. */
import { Fault } from '#host/fault.ts';
import { ceilDivide, parseQuantity } from '../kube/quantity.ts';
import type { Container, Pod } from '../kube/types.ts';

/** What is known of the pod only once it is on a node. */
export interface PodPlace {
  readonly hostIPs: readonly string[];
  readonly podIPs: readonly string[];
  /** What a container without limits may use at most: quantities by resource name. */
  readonly allocatable: Readonly<Record<string, string>>;
}

const subscript = /^metadata\.(labels|annotations)\['(.*)'\]$/;

/** Throws Fault('invalid') for a path the kubelet does not know. */
export function fieldValue(path: string, pod: Pod, place: PodPlace): string {
  const keyed = subscript.exec(path);
  if (keyed !== null) return pod.metadata?.[keyed[1] === 'labels' ? 'labels' : 'annotations']?.[keyed[2] ?? ''] ?? '';
  switch (path) {
    case 'metadata.name':
      return pod.metadata?.name ?? '';
    case 'metadata.namespace':
      return pod.metadata?.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata?.uid ?? '';
    case 'metadata.labels':
      return keyValueLines(pod.metadata?.labels ?? {});
    case 'metadata.annotations':
      return keyValueLines(pod.metadata?.annotations ?? {});
    case 'spec.nodeName':
      return pod.spec?.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec?.serviceAccountName ?? '';
    case 'status.hostIP':
      return place.hostIPs[0] ?? '';
    case 'status.hostIPs':
      return place.hostIPs.join(',');
    case 'status.podIP':
      return place.podIPs[0] ?? '';
    case 'status.podIPs':
      return place.podIPs.join(',');
    default:
      throw new Fault('invalid', `unsupported fieldPath: ${path}`);
  }
}

/** `key="value"` lines in the order of the keys, quoted as Go's %q. */
const keyValueLines = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');

/** Whole multiples of the divisor, rounded up. A limit that is not set is what the node has. */
export function resourceValue(reference: { resource: string; divisor?: string }, container: Container, place: PodPlace): string {
  const [kind, ...rest] = reference.resource.split('.');
  const name = rest.join('.');
  if ((kind !== 'limits' && kind !== 'requests') || name === '') throw new Fault('invalid', `unsupported container resource: ${reference.resource}`);
  const limit = container.resources?.limits?.[name];
  const text = kind === 'limits' ? (limit ?? place.allocatable[name]) : (container.resources?.requests?.[name] ?? limit ?? '0');
  const quantity = parseQuantity(text ?? '0');
  const asked = parseQuantity(reference.divisor ?? '1');
  if (quantity === undefined || asked === undefined) throw new Fault('invalid', `container ${container.name}: ${reference.resource} is no quantity`);
  const divisor = asked === 0n ? 1_000_000_000n : asked;
  return String(ceilDivide(quantity, divisor));
}
