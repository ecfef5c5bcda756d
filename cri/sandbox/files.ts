/** The files of a sandbox that containers see at /etc/hosts, /etc/hostname and /etc/resolv.conf. Pure, but for the writing. */
import { chown, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DNSConfig } from '#cri-api';
import { isErrno } from '#host/errno.ts';
import type { Owner } from '#host/id-mapping.ts';

/** resolv.conf(5) from the CRI's DNS configuration; undefined when it says nothing, which means the host's. */
export function resolvConf(dns: DNSConfig | undefined): string | undefined {
  if (dns === undefined || dns.servers.length + dns.searches.length + dns.options.length === 0) return undefined;
  const lines = dns.searches.length > 0 ? [`search ${dns.searches.join(' ')}`] : [];
  for (const server of dns.servers) lines.push(`nameserver ${server}`);
  if (dns.options.length > 0) lines.push(`options ${dns.options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

/** hosts(5) for a pod with its own network; the kubelet brings its own file, which hides this one. */
export const hostsFile = (hostname: string, ips: readonly string[]): string =>
  ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback', 'fe00::\tip6-localnet', 'ff02::1\tip6-allnodes', 'ff02::2\tip6-allrouters', ...ips.map((ip) => `${ip}\t${hostname}`), ''].join('\n');

async function hostsOwn(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

/** Writes the three files into the sandbox's directory, as the pod's root's; `ips` empty with the host's network, whose hosts file is then copied. */
export async function writeSandboxFiles(dir: string, facts: { hostname: string; ips: readonly string[]; dns: DNSConfig | undefined; owner: Owner }): Promise<void> {
  const hosts = facts.ips.length > 0 ? hostsFile(facts.hostname, facts.ips) : await hostsOwn('/etc/hosts');
  const resolv = resolvConf(facts.dns) ?? (await hostsOwn('/etc/resolv.conf'));
  const { uid, gid } = facts.owner;
  const write = async (name: string, text: string): Promise<void> => {
    await writeFile(join(dir, name), text, { mode: 0o644 });
    if (uid !== 0 || gid !== 0) await chown(join(dir, name), uid, gid);
  };
  await Promise.all([write('hosts', hosts), write('hostname', `${facts.hostname}\n`), write('resolv.conf', resolv)]);
}
