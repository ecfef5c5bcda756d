/** The Node object from what the machine, the runtime and the configuration say. */
import { createHash } from 'node:crypto';
import { parseQuantity, milliOf, wholeOf } from '../kube/quantity.ts';
import type { Node, NodeAddress, NodeStatus, Taint } from '../kube/types.ts';
import type { HostInfo } from './host-info.ts';

export interface NodeSettings {
  readonly nodeName: string;
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly registerWithTaints: readonly { readonly key: string; readonly value?: string | undefined; readonly effect: string }[];
  readonly providerID: string | undefined;
  readonly nodeIP: string | undefined;
  readonly maxPods: number;
  readonly kubeReserved: Readonly<Record<string, string>>;
  readonly systemReserved: Readonly<Record<string, string>>;
}

export interface RuntimeFacts {
  /** `nodelet://0.1.0`. */
  readonly version: string;
  readonly handlers: readonly { readonly name: string; readonly recursiveReadOnlyMounts: boolean; readonly userNamespaces: boolean }[];
  readonly supplementalGroupsPolicy: boolean;
  readonly images: readonly { readonly names: readonly string[]; readonly sizeBytes: number }[];
}

/** The release whose behaviour we follow, with our own mark behind it as other distributions do. */
const kubeletVersion = 'v1.37.2+nodelet';

/** Source: kubelet defaults of evictionHard: what pods may never have. */
const evictionMemoryBytes = 100n * 1024n * 1024n;
const evictionDiskPercent = 10n;
const imagesListed = 50;
const namesPerImage = 5;

/** For the first registration; afterwards only labels and annotations may be changed, by NodeRestriction. */
export function buildNode(settings: NodeSettings, host: HostInfo, status: NodeStatus): Node {
  const platform = { 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': host.architecture };
  const taints = settings.registerWithTaints.map(({ key, value, effect }): Taint => ({ key, effect, ...(value !== undefined && { value }) }));
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: settings.nodeName,
      labels: {
        ...platform,
        'beta.kubernetes.io/os': 'linux',
        'beta.kubernetes.io/arch': host.architecture,
        'kubernetes.io/hostname': settings.nodeName,
        ...settings.nodeLabels,
      },
      annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' },
    },
    spec: { ...(settings.providerID !== undefined && { providerID: settings.providerID }), ...(taints.length > 0 && { taints }) },
    status,
  };
}

export function buildStatus(settings: NodeSettings, host: HostInfo, runtime: RuntimeFacts, addresses: readonly string[], port: number): Omit<NodeStatus, 'conditions'> {
  const capacity = capacityOf(settings, host);
  return {
    capacity,
    allocatable: allocatableOf(settings, host, capacity),
    addresses: nodeAddresses(addresses, host.hostName),
    daemonEndpoints: { kubeletEndpoint: { Port: port } },
    nodeInfo: {
      machineID: host.machineId,
      systemUUID: host.systemUuid,
      bootID: host.bootId,
      kernelVersion: host.kernelVersion,
      osImage: host.osImage,
      containerRuntimeVersion: runtime.version,
      kubeletVersion,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: host.architecture,
      ...(host.swapBytes > 0 && { swap: { capacity: host.swapBytes } }),
    },
    images: listedImages(runtime.images),
    runtimeHandlers: runtime.handlers.map(({ name, recursiveReadOnlyMounts, userNamespaces }) => ({ name, features: { recursiveReadOnlyMounts, userNamespaces } })),
    features: { supplementalGroupsPolicy: runtime.supplementalGroupsPolicy },
  };
}

const nodeAddresses = (addresses: readonly string[], hostName: string): NodeAddress[] => [
  ...addresses.map((address) => ({ type: 'InternalIP', address })),
  { type: 'Hostname', address: hostName },
];

type Resources = Record<string, string>;

function capacityOf(settings: NodeSettings, host: HostInfo): Resources {
  const capacity: Resources = {
    cpu: String(host.cores),
    memory: bytesText(BigInt(host.memoryBytes)),
    'ephemeral-storage': bytesText(BigInt(host.diskBytes)),
    pods: String(settings.maxPods),
  };
  for (const [kib, bytes] of host.hugePages) capacity[`hugepages-${pageText(kib)}`] = bytesText(BigInt(bytes));
  return capacity;
}

/** Source: kubelet pkg/kubelet/cm/node_container_manager_linux.go: capacity − reserved − hard eviction; huge pages come off the memory. */
function allocatableOf(settings: NodeSettings, host: HostInfo, capacity: Resources): Resources {
  const reserved = (name: string): bigint =>
    [settings.kubeReserved, settings.systemReserved].reduce((sum, map) => sum + (parseQuantity(map[name] ?? '0') ?? 0n), 0n);
  const atLeastZero = (value: bigint): bigint => (value > 0n ? value : 0n);
  const hugeBytes = [...host.hugePages.values()].reduce((sum, bytes) => sum + BigInt(bytes), 0n);
  const diskBytes = BigInt(host.diskBytes);
  const cpuMilli = atLeastZero(BigInt(host.cores) * 1000n - milliOf(reserved('cpu')));
  return {
    ...capacity,
    cpu: cpuMilli % 1000n === 0n ? String(cpuMilli / 1000n) : `${cpuMilli}m`,
    memory: bytesText(atLeastZero(BigInt(host.memoryBytes) - wholeOf(reserved('memory')) - evictionMemoryBytes - hugeBytes)),
    'ephemeral-storage': String(atLeastZero(diskBytes - wholeOf(reserved('ephemeral-storage')) - (diskBytes * evictionDiskPercent) / 100n)),
  };
}

/** In Ki where that is exact, as the kubelet's quantities print. */
const bytesText = (bytes: bigint): string => (bytes > 0n && bytes % 1024n === 0n ? `${bytes / 1024n}Ki` : String(bytes));

function pageText(kib: number): string {
  if (kib >= 1024 * 1024) return `${kib / 1024 / 1024}Gi`;
  return kib >= 1024 ? `${kib / 1024}Mi` : `${kib}Ki`;
}

/** The largest ones; digests before tags, so that of many names the exact ones stay. */
function listedImages(images: RuntimeFacts['images']): NonNullable<NodeStatus['images']> {
  return images
    .filter(({ names }) => names.length > 0)
    .toSorted((one, other) => other.sizeBytes - one.sizeBytes)
    .slice(0, imagesListed)
    .map(({ names, sizeBytes }) => ({ names: names.slice(0, namesPerImage), sizeBytes }));
}

/** What tells two statuses apart: everything but the times of the heartbeat. */
export function statusFingerprint(status: NodeStatus): string {
  const conditions = status.conditions?.map(({ type, status: value, reason, message }) => [type, value, reason, message]);
  return createHash('sha256').update(JSON.stringify({ ...status, conditions })).digest('base64');
}
