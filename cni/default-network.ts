/**
 * The network of a node that has no CNI configuration: a bridge with addresses from the node's pod CIDRs. Pure.
 *
 * portmap is in the chain only for pods that map ports (its DEL runs iptables half a dozen times even for nothing), bandwidth only for
 * pods with a limit. Masquerading is set up once for the node (masquerade.ts), not per pod.
 */
import { Fault } from '#host/fault.ts';
import { overlap, parseSubnet, type Subnet } from './address.ts';
import { parseConfFile } from './conf.ts';
import type { Attachment, JsonObject, Network } from './types.ts';

export interface DefaultNetworkOptions {
  /** One IPv4, one IPv6, or one of each. */
  readonly podCidrs: readonly string[];
  /** Default `nodelet0`. Two nodes on one machine need two. */
  readonly bridge?: string | undefined;
  /** Where host-local keeps which address is whose. */
  readonly addressDir: string;
}

const defaultBridge = 'nodelet0';
const name = 'nodelet';

/** Throws Fault invalid: not CIDRs, too small for a gateway and a pod, or two of one family. */
export function checkPodCidrs(podCidrs: readonly string[]): Subnet[] {
  const subnets = podCidrs.map((text) => {
    let subnet: Subnet;
    try {
      subnet = parseSubnet(text.trim());
    } catch (error) {
      throw new Fault('invalid', `pod CIDR: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (subnet.size < 4n) throw new Fault('invalid', `pod CIDR ${text}: too small, it needs room for a gateway and a pod`);
    return subnet;
  });
  for (const [index, subnet] of subnets.entries()) {
    const twin = subnets.slice(0, index).find((other) => other.family === subnet.family);
    if (twin === undefined) continue;
    throw new Fault('invalid', `pod CIDRs ${twin.cidr} and ${subnet.cidr}: ${overlap(twin, subnet) ? 'they overlap' : `both are IPv${subnet.family}; at most one of each family`}`);
  }
  return subnets;
}

/** With every plugin: what is shown and kept. */
export function defaultNetwork(options: DefaultNetworkOptions): Network {
  return networkOf(options, ['bridge', 'portmap', 'bandwidth']);
}

/** For one pod: only the plugins that have something to do. */
export function defaultNetworkFor(options: DefaultNetworkOptions, attachment: Pick<Attachment, 'portMappings' | 'bandwidth'>): Network {
  const wanted = ['bridge'];
  if ((attachment.portMappings ?? []).length > 0) wanted.push('portmap');
  if (attachment.bandwidth !== undefined) wanted.push('bandwidth');
  return networkOf(options, wanted);
}

function networkOf({ podCidrs, bridge = defaultBridge, addressDir }: DefaultNetworkOptions, types: readonly string[]): Network {
  const subnets = checkPodCidrs(podCidrs);
  const plugins: Record<string, JsonObject> = {
    bridge: {
      type: 'bridge',
      bridge,
      isGateway: true,
      ipMasq: false,
      hairpinMode: true,
      ipam: {
        type: 'host-local',
        dataDir: addressDir,
        ranges: subnets.map((subnet) => [{ subnet: subnet.cidr }]),
        routes: subnets.map((subnet) => ({ dst: subnet.family === 4 ? '0.0.0.0/0' : '::/0' })),
      },
    },
    portmap: { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    bandwidth: { type: 'bandwidth', capabilities: { bandwidth: true } },
  };
  const list = { cniVersion: '1.0.0', name, plugins: types.map((type) => plugins[type]) };
  return { ...parseConfFile({ path: 'generated.conflist', text: `${JSON.stringify(list, undefined, 2)}\n` }), source: 'generated from the pod CIDRs' };
}

/** The pod CIDRs of a network that `defaultNetwork` made: how they survive a restart. Throws Fault invalid. */
export function podCidrsOf(text: string, path: string): string[] {
  const network = parseConfFile({ path, text });
  const ipam = network.plugins.find((plugin) => plugin.type === 'bridge')?.raw['ipam'] as { ranges?: { subnet?: unknown }[][] } | undefined;
  const subnets = (ipam?.ranges ?? []).flat().map((range) => range.subnet);
  return checkPodCidrs(subnets.filter((subnet) => typeof subnet === 'string')).map((subnet) => subnet.cidr);
}
