/** What one test has for itself: a folder, free ports, a subnet, names. */
import { mkdtemp, rm } from 'node:fs/promises';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import { findSystemProgram } from './tools.ts';
import { shell } from './shell.ts';

/** The random word of each private folder of this process: whatever is made for it carries the word in its name. */
export const ownWords = new Set<string>();

/** A folder below /tmp that every user may pass through (user namespaces need that); short, because sockets in it may have 107 bytes. */
export async function privateDir(prefix: string): Promise<{ readonly dir: string; readonly id: string; remove(): Promise<void> }> {
  const dir = await mkdtemp(`/tmp/${prefix}-`);
  const word = dir.slice(`/tmp/${prefix}-`.length);
  const id = word.toLowerCase();
  for (const each of [word, id]) ownWords.add(each);
  await shell('/bin/chmod', ['711', dir]);
  return { dir, id, remove: () => removeWithMounts(dir) };
}

/** Removes a folder; what is still mounted below it is unmounted first, so that nothing outside is deleted through a bind mount. */
export async function removeWithMounts(dir: string): Promise<void> {
  const below = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((point) => point.startsWith(`${dir}/`));
  const umount = findSystemProgram('umount') ?? '/bin/umount';
  for (const point of below.reverse()) await shell(umount, ['--lazy', unescapePoint(point)]);
  await rm(dir, { recursive: true, force: true });
}

/** mountinfo writes space, tab, newline and backslash as octal. */
const unescapePoint = (text: string): string => text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

async function listen(port: number): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(port, '127.0.0.1', resolve); });
  return server;
}
const close = (server: Server): Promise<void> => new Promise((resolve) => { server.close(() => { resolve(); }); });

/** Ports of 127.0.0.1 that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map(close));
  return ports;
}

export async function arePortsFree(ports: readonly number[]): Promise<boolean> {
  const tries = await Promise.allSettled(ports.map((port) => listen(port)));
  const open = tries.filter((each) => each.status === 'fulfilled');
  await Promise.all(open.map((each) => close(each.value)));
  return open.length === ports.length;
}

/** A /24 of 10.160.0.0/11 which no interface of this machine is in. */
export function freeSubnet(): string {
  const used = new Set(Object.values(networkInterfaces()).flat().map((each) => each?.address.split('.').slice(0, 3).join('.')));
  for (;;) {
    const net = `10.${160 + Math.floor(Math.random() * 32)}.${Math.floor(Math.random() * 256)}`;
    if (!used.has(net)) return `${net}.0/24`;
  }
}

/** An address of this machine for nodes: the kubelet refuses loopback. */
export function hostAddress(): string {
  const found = Object.values(networkInterfaces()).flat().find((each) => each !== undefined && !each.internal && each.family === 'IPv4');
  if (found === undefined) throw new Error('this machine has no IPv4 address besides loopback, and a node needs one');
  return found.address;
}

/** A bridge configuration as a user would write it; bridge and IPAM folder are the test's own. */
export function bridgeConflist(options: { readonly name: string; readonly bridge: string; readonly subnet: string; readonly dataDir: string; readonly ipMasq?: boolean }): string {
  const { name, bridge, subnet, dataDir, ipMasq = true } = options;
  const ipam = { type: 'host-local', ranges: [[{ subnet }]], routes: [{ dst: '0.0.0.0/0' }], dataDir };
  return JSON.stringify({
    cniVersion: '1.0.0', name,
    plugins: [{ type: 'bridge', bridge, isGateway: true, ipMasq, hairpinMode: true, ipam }, { type: 'portmap', capabilities: { portMappings: true } }],
  }, undefined, 1);
}

/** The bridge itself outlives the last pod by the plugin's design; whoever configured it takes it away. */
export async function deleteInterface(name: string): Promise<void> {
  const ip = findSystemProgram('ip');
  if (ip === undefined || !readFileSync('/proc/self/net/dev', 'utf8').includes(`${name}:`)) return;
  await shell(ip, ['link', 'delete', name]);
}

/** Some programs make folders and cgroups at fixed places. Returns what removes those that were not there before, if they are empty by then. */
export function keepFoldersAsTheyAre(folders: readonly string[]): () => void {
  const absent = folders.filter((each) => !existsSync(each));
  return () => { for (const each of absent) removeEmptyFolders(each); };
}

/** rmdir of the folder and all below it, which is how cgroups go too. Throws ENOTEMPTY when there is a file. */
export function removeEmptyFolders(dir: string): void {
  if (!existsSync(dir)) return;
  for (const each of readdirSync(dir, { withFileTypes: true })) if (each.isDirectory()) removeEmptyFolders(path.join(dir, each.name));
  rmdirSync(dir);
}

/** The mount points of all cgroup hierarchies, v1 and v2. */
export const cgroupHierarchies = (): string[] => readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  .filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(' ')[4] ?? '');
