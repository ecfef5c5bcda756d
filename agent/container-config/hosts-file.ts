/** The text of a pod's /etc/hosts. */
import type { Pod } from '../kube/types.ts';
import type { PodHostname } from './hostname.ts';

const managedHead = `# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
`;

function aliasLines(pod: Pod): string {
  const aliases = pod.spec?.hostAliases ?? [];
  if (aliases.length === 0) return '';
  return `\n# Entries added by HostAliases.\n${aliases.map(({ ip, hostnames }) => `${[ip, ...(hostnames ?? [])].join('\t')}\n`).join('')}`;
}

/** For a pod with a network of its own. */
export function hostsFile(pod: Pod, ips: readonly string[], { hostname, domain }: PodHostname): string {
  const names = domain === '' ? hostname : `${hostname}.${domain}\t${hostname}`;
  return `${managedHead}${ips.map((ip) => `${ip}\t${names}\n`).join('')}${aliasLines(pod)}`;
}

/** For a pod on the host's network: the node's own file and the aliases. */
export const hostNetworkHostsFile = (pod: Pod, nodeFile: string): string =>
  `# Kubernetes-managed hosts file (host network).\n${nodeFile}${aliasLines(pod)}`;
