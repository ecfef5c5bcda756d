/** A private place of the benchmark: folder, bridge, subnet, cgroup; and taking all of it away. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import path from 'node:path';

export interface Place {
  /** Short: there are unix sockets in it. */
  readonly dir: string;
  readonly bridge: string;
  /** A /16: 50 pods at once must not run out of addresses. */
  readonly subnet: string;
  /** Parent of the pods' cgroups. */
  readonly cgroup: string;
}

let places = 0;

/** Bridges nlb*, subnets in 10.200.0.0/13 that no interface of this machine is in. */
export async function makePlace(prefix: string, { onTmpfs }: { readonly onTmpfs: boolean }): Promise<Place> {
  const dir = await mkdtemp(`/tmp/${prefix}-`);
  if (onTmpfs) spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', dir]);
  await chmod(dir, 0o711);
  const used = new Set(Object.values(networkInterfaces()).flat().map((each) => each?.address.split('.').slice(0, 2).join('.')));
  const second = Array.from({ length: 8 }, (_, i) => 200 + ((i + places) % 8)).find((each) => !used.has(`10.${each}`));
  if (second === undefined) throw new Error('no free subnet in 10.200.0.0/13 for the benchmark');
  places += 1;
  const id = dir.slice(`/tmp/${prefix}-`.length).toLowerCase();
  return { dir, bridge: `nlb${id}`, subnet: `10.${second}.0.0/16`, cgroup: `/nlbench-${id}` };
}

/** The same for every server but for names and addresses. */
export function conflist(place: Place, ipMasq: boolean): string {
  const ipam = { type: 'host-local', ranges: [[{ subnet: place.subnet }]], routes: [{ dst: '0.0.0.0/0' }], dataDir: path.join(place.dir, 'ipam') };
  const bridge = { type: 'bridge', bridge: place.bridge, isGateway: true, ipMasq, hairpinMode: true, ipam };
  return JSON.stringify({ cniVersion: '1.0.0', name: place.bridge, plugins: [bridge, { type: 'portmap', capabilities: { portMappings: true } }] }, undefined, 1);
}

/** Mounts below the folder, the folder, the bridge, the cgroups. Absent is success. */
export async function removePlace(place: Place): Promise<void> {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((point) => point === place.dir || point.startsWith(`${place.dir}/`));
  for (const point of mounts.toReversed()) spawnSync('umount', ['--lazy', point]);
  await rm(place.dir, { recursive: true, force: true });
  if (readFileSync('/proc/self/net/dev', 'utf8').includes(`${place.bridge}:`)) spawnSync('ip', ['link', 'delete', place.bridge], { env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } });
  for (const hierarchy of cgroupHierarchies()) removeEmptyFolders(path.join(hierarchy, place.cgroup));
}

/** Some programs make folders at fixed places. Returns what removes those that were not there before, where nobody put anything by then. */
export function keepAbsent(folders: readonly string[]): () => void {
  const absent = folders.filter((folder) => !existsSync(folder));
  return () => absent.forEach(removeEmptyFolders);
}

function removeEmptyFolders(dir: string): void {
  if (!existsSync(dir)) return;
  for (const each of readdirSync(dir, { withFileTypes: true })) if (each.isDirectory()) removeEmptyFolders(path.join(dir, each.name));
  try {
    rmdirSync(dir);
  } catch {
    // Somebody has something in it: it is theirs then.
  }
}

export const cgroupHierarchies = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(' ')[4] ?? '');
