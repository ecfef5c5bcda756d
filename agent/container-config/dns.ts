/** What goes into a pod's resolv.conf, with the kubelet's limits. */
import type { DNSConfig } from '#cri-api';
import { podText } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';

export interface ResolvConf {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface DnsFacts {
  /** Of the file the node is configured with. */
  readonly node: ResolvConf;
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  /** A standalone node has no cluster whose DNS could be missed. */
  readonly isStandalone: boolean;
}

export interface PodDns {
  readonly config: DNSConfig;
  /** Warnings for events, reason and message. */
  readonly warnings: readonly { readonly reason: 'DNSConfigForming' | 'MissingClusterDNS'; readonly message: string }[];
}

const maxNameservers = 3;
const maxSearches = 32;
const maxSearchCharacters = 2048;

export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let searches: string[] = [];
  let options: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && words[0] !== undefined) nameservers.push(words[0]);
    if (keyword === 'search') searches = words.map((word) => (word.length > 1 && word.endsWith('.') ? word.slice(0, -1) : word));
    if (keyword === 'options') options = words;
  }
  return { nameservers, searches, options };
}

const unique = (values: readonly string[]): string[] => [...new Set(values)];

/** ClusterFirst without a cluster DNS, or on the host's network, is Default. */
export function podDns(pod: Pod, facts: DnsFacts): PodDns {
  const warnings: PodDns['warnings'][number][] = [];
  const base = baseConfig(pod, facts, (message) => warnings.push({ reason: 'MissingClusterDNS', message }));
  const extra = pod.spec?.dnsConfig;
  const options = new Map(base.options.map((option) => [option.split(':')[0] ?? option, option]));
  for (const { name, value } of extra?.options ?? []) if (name !== undefined) options.set(name, value === undefined || value === '' ? name : `${name}:${value}`);
  const wanted = {
    servers: unique([...base.nameservers, ...(extra?.nameservers ?? [])]),
    searches: unique([...base.searches, ...(extra?.searches ?? [])]),
    options: [...options.values()],
  };
  return { config: limited(wanted, (message) => warnings.push({ reason: 'DNSConfigForming', message })), warnings };
}

function baseConfig(pod: Pod, { node, clusterDNS, clusterDomain, isStandalone }: DnsFacts, missing: (message: string) => void): ResolvConf {
  const policy = pod.spec?.dnsPolicy ?? 'ClusterFirst';
  if (policy === 'None') return { nameservers: [], searches: [], options: [] };
  const wantsCluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && pod.spec?.hostNetwork !== true);
  if (wantsCluster && clusterDNS.length > 0) {
    const namespace = pod.metadata?.namespace ?? 'default';
    const own = clusterDomain === '' ? [] : [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
    return { nameservers: clusterDNS, searches: [...own, ...node.searches], options: ['ndots:5'] };
  }
  if (wantsCluster && !isStandalone) {
    missing(
      `pod: "${podText(pod)}". kubelet does not have ClusterDNS IP configured and cannot create Pod using "${policy}" policy. Falling back to "Default" policy.`,
    );
  }
  return node;
}

function limited(config: { servers: string[]; searches: string[]; options: string[] }, warn: (message: string) => void): DNSConfig {
  let { servers, searches } = config;
  if (servers.length > maxNameservers) {
    servers = servers.slice(0, maxNameservers);
    warn(`Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${servers.join(' ')}`);
  }
  const kept = searches.slice(0, maxSearches);
  while (kept.join(' ').length > maxSearchCharacters) kept.pop();
  if (kept.length < searches.length) {
    searches = kept;
    warn(`Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${searches.join(' ')}`);
  }
  return { servers, searches, options: config.options };
}
