/** The host name a pod sees, and its domain. */
import { Fault } from '#host/fault.ts';
import type { Pod } from '../kube/types.ts';

export interface PodHostname {
  readonly hostname: string;
  /** `sub.namespace.svc.cluster.local`, empty without a subdomain. */
  readonly domain: string;
}

/** At most 63 characters, and none of those that may not end a label. */
const cutHostname = (name: string): string => name.slice(0, 63).replace(/[-.]+$/, '');

export function podHostname(pod: Pod, clusterDomain: string): PodHostname {
  const { hostname, subdomain, hostnameOverride } = { hostnameOverride: undefined, ...pod.spec };
  if (typeof hostnameOverride === 'string' && hostnameOverride !== '') return { hostname: hostnameOverride, domain: '' };
  const name = hostname !== undefined && hostname !== '' ? hostname : cutHostname(pod.metadata?.name ?? '');
  const domain = subdomain !== undefined && subdomain !== '' ? `${subdomain}.${pod.metadata?.namespace ?? 'default'}.svc.${clusterDomain}` : '';
  return { hostname: name, domain };
}

/** What the kernel is told. Throws Fault('invalid') when setHostnameAsFQDN gives a name it does not take. */
export function kernelHostname(pod: Pod, { hostname, domain }: PodHostname): string {
  if (pod.spec?.setHostnameAsFQDN !== true || domain === '') return hostname;
  const full = `${hostname}.${domain}`;
  if (full.length > 64) throw new Fault('invalid', `failed to construct FQDN from pod hostname and cluster domain, FQDN ${full} is too long (64 characters is the max, ${full.length} characters requested)`);
  return full;
}
