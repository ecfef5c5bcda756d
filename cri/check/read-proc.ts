/** What the kernel tells about itself in /proc and /sys, as facts for `nodelet check`. */
import { access, readdir, readFile, readlink } from 'node:fs/promises';
import { release } from 'node:os';
import { allPids } from '#host/process.ts';
import type { KernelFacts, Listener } from './facts.ts';

/** Trimmed; empty when it cannot be read, which for these files means that the kernel or the right to read is missing. */
export const readText = async (path: string): Promise<string> => (await readFile(path, 'utf8').catch(() => '')).trim();

const sysctlNames = ['net.ipv4.ip_forward', 'net.bridge.bridge-nf-call-iptables', 'fs.inotify.max_user_instances'];

export async function kernelFacts(hasAppArmorParser: boolean): Promise<KernelFacts> {
  const sysctls = await Promise.all(sysctlNames.map(async (name) => [name, await readText(`/proc/sys/${name.split('.').join('/')}`)] as const));
  const maxUserNamespaces = await readText('/proc/sys/user/max_user_namespaces');
  return {
    release: release(),
    fileSystems: (await readText('/proc/filesystems')).split('\n').map((line) => line.split('\t').at(-1) ?? ''),
    namespaces: await readdir('/proc/self/ns'),
    maxUserNamespaces: maxUserNamespaces === '' ? undefined : Number(maxUserNamespaces),
    seccompActions: (await readText('/proc/sys/kernel/seccomp/actions_avail')).split(' ').filter((word) => word !== ''),
    appArmor: { isEnabled: (await readText('/sys/module/apparmor/parameters/enabled')) === 'Y' && (await exists('/sys/kernel/security/apparmor')), hasParser: hasAppArmorParser },
    selinux: { '': 'absent', 0: 'permissive', 1: 'enforcing' }[await readText('/sys/fs/selinux/enforce')] as KernelFacts['selinux'] | undefined ?? 'absent',
    sysctls: Object.fromEntries(sysctls.filter(([, value]) => value !== '')),
  };
}

const exists = (path: string): Promise<boolean> => access(path).then(() => true, () => false);

/** The distribution's own name. */
export const systemName = async (): Promise<string> => /^PRETTY_NAME="?(.*?)"?$/m.exec(await readText('/etc/os-release'))?.[1] ?? 'Linux';

export async function openFileLimits(): Promise<{ soft: number; hard: number }> {
  const [, soft = '', hard = ''] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(await readText('/proc/self/limits')) ?? [];
  const number = (word: string): number => (word === 'unlimited' ? Infinity : Number(word));
  return { soft: number(soft), hard: number(hard) };
}

/** Of /proc/net/tcp and tcp6: port and inode of what listens. */
export function parseListening(table: string): { port: number; inode: string }[] {
  return table.split('\n').slice(1).flatMap((row) => {
    const [, local = '', , state, , , , , , inode = ''] = row.trim().split(/\s+/);
    return state === '0A' ? [{ port: Number.parseInt(local.split(':')[1] ?? '', 16), inode }] : [];
  });
}

/** Who listens on these TCP ports, on whatever address. */
export async function listenersOn(ports: readonly number[]): Promise<Listener[]> {
  const tables = await Promise.all([readText('/proc/net/tcp'), readText('/proc/net/tcp6')]);
  const taken = tables.flatMap(parseListening).filter(({ port }) => ports.includes(port));
  const holders = taken.length === 0 ? new Map<string, number>() : await socketHolders(new Set(taken.map(({ inode }) => inode)));
  return Promise.all(taken.map(async ({ port, inode }): Promise<Listener> => {
    const pid = holders.get(inode);
    return { port, pid, program: pid === undefined ? '' : await programOf(pid) };
  }));
}

/** A nodelet runs as `node …/nodelet.js`, and is called by that. */
async function programOf(pid: number): Promise<string> {
  const args = (await readText(`/proc/${pid}/cmdline`)).split('\0');
  return args.some((word) => /\/nodelet\.(js|ts)$/.test(word)) ? 'nodelet' : readText(`/proc/${pid}/comm`);
}

async function socketHolders(inodes: ReadonlySet<string>): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const pid of await allPids()) {
    // Processes end while we look, and others may not be looked at.
    const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
    const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
    for (const target of targets) {
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode !== undefined && inodes.has(inode)) found.set(inode, pid);
    }
  }
  return found;
}
