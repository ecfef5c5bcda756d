/** The host's side of what a config asks for: sources of mounts, device nodes, seccomp files. */
import { mkdir, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MountPropagation, type ContainerConfig, type Device, type Mount } from '#cri-api';
import { allEnded } from '#host/all-ended.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { type MountInfo, readMounts } from '#host/mountinfo.ts';
import { relabel } from '#host/relabel.ts';
import type { OciSeccomp } from '../oci/spec-types.ts';
import { deviceNumbers, devicePermissions, type HostDevice } from '../spec/devices.ts';
import type { PreparedMount } from '../spec/mounts.ts';
import { assertMayRelabel } from '../spec/selinux.ts';
import { parseSeccomp, seccompChoice } from '../spec/seccomp.ts';

const maxSeccompBytes = 1024 * 1024;

export interface OwnMounts {
  /** Mounts the image of an image volume and says where; undefined for every other mount. */
  readonly image: (mount: Mount, index: number) => Promise<string> | undefined;
  /** For volumes with mapped ids, where the OCI runtime does not map them. */
  readonly mapped: ((mount: Mount, index: number, source: string) => Promise<string>) | undefined;
}

/** A missing source becomes a directory, as in containerd; a link is followed. Fault 'invalid' names the mount. */
export async function prepareMounts(mounts: readonly Mount[], own: OwnMounts): Promise<PreparedMount[]> {
  if (mounts.length === 0) return [];
  // Only who asks for propagation needs the host's table of mounts.
  const table = mounts.some(({ propagation }) => propagation !== MountPropagation.PROPAGATION_PRIVATE) ? await readMounts() : [];
  return allEnded(
    mounts.map(async (mount, index): Promise<PreparedMount> => {
      const imagePath = own.image(mount, index);
      if (imagePath !== undefined) return { mount, source: await imagePath, hostPropagation: 'private', isMapped: true };
      const source = await hostSource(mount);
      const isOurs = own.mapped !== undefined && mount.uidMappings.length > 0;
      if (isOurs) return { mount, source: await own.mapped(mount, index, source), hostPropagation: 'private', isMapped: true };
      return { mount, source, hostPropagation: propagationOf(source, table), isMapped: false };
    }),
  );
}

/** Gives the files of the mounts that ask for it the label that the container may use. Images are read as they are. */
export async function relabelSources(mounts: readonly PreparedMount[], label: string): Promise<void> {
  for (const { mount, source } of mounts) {
    if (!mount.selinuxRelabel || mount.image !== undefined) continue;
    assertMayRelabel(source);
    await relabel(source, label);
  }
}

async function hostSource(mount: Mount): Promise<string> {
  if (!mount.hostPath.startsWith('/')) throw new Fault('invalid', `mount ${mount.containerPath}: host_path ${JSON.stringify(mount.hostPath)} is not absolute`);
  try {
    return await realpath(mount.hostPath);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw new Fault('invalid', `mount ${mount.containerPath}: host_path ${mount.hostPath}`, error);
  }
  try {
    await mkdir(mount.hostPath, { recursive: true, mode: 0o755 });
    return await realpath(mount.hostPath);
  } catch (error) {
    throw new Fault('invalid', `mount ${mount.containerPath}: host_path ${mount.hostPath} does not exist and cannot be made`, error);
  }
}

/** Of the mount that `path` lies on: the one with the longest mount point, and the last made of those. */
export function propagationOf(path: string, table: readonly MountInfo[]): PreparedMount['hostPropagation'] {
  let found: MountInfo | undefined;
  for (const entry of table) {
    const isAbove = entry.mountPoint === '/' || path === entry.mountPoint || path.startsWith(`${entry.mountPoint}/`);
    if (isAbove && entry.mountPoint.length >= (found?.mountPoint.length ?? 0)) found = entry;
  }
  if (found?.propagation.some((word) => word.startsWith('shared:')) === true) return 'shared';
  return found?.propagation.some((word) => word.startsWith('master:')) === true ? 'slave' : 'private';
}

/** The config's devices; for a privileged container all of the host's (unless its handler says otherwise), and the config's on top. */
export async function hostDevices(config: ContainerConfig, privileged: { all: boolean }): Promise<HostDevice[]> {
  const hasAll = privileged.all && config.linux?.securityContext?.privileged === true;
  const all = hasAll ? await devicesIn({ containerPath: '/dev', hostPath: '/dev', permissions: 'rwm' }) : [];
  return [...all, ...(await Promise.all(config.devices.map(askedDevices))).flat()];
}

async function askedDevices(device: Device): Promise<HostDevice[]> {
  const permissions = devicePermissions(device.permissions);
  const wanted = { containerPath: device.containerPath === '' ? device.hostPath : device.containerPath, hostPath: device.hostPath, permissions };
  let hostPath: string;
  try {
    hostPath = await realpath(device.hostPath);
  } catch (error) {
    throw new Fault('invalid', `device ${device.hostPath}`, error);
  }
  const found = await deviceAt({ ...wanted, hostPath });
  if (found === 'directory') return devicesIn({ ...wanted, hostPath });
  if (found === undefined) throw new Fault('invalid', `device ${device.hostPath}: not a device node`);
  return [found];
}

interface WantedDevice {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly permissions: string;
}

async function deviceAt(wanted: WantedDevice): Promise<HostDevice | 'directory' | undefined> {
  let info;
  try {
    info = await stat(wanted.hostPath, { bigint: true });
  } catch (error) {
    // Gone between the listing and now, or a dangling link.
    if (isErrno(error, 'ENOENT', 'ELOOP')) return undefined;
    throw error;
  }
  if (info.isDirectory()) return 'directory';
  const type = info.isCharacterDevice() ? 'c' : info.isBlockDevice() ? 'b' : undefined;
  if (type === undefined) return undefined;
  const { containerPath, permissions } = wanted;
  return { containerPath, type, ...deviceNumbers(info.rdev), mode: Number(info.mode), uid: Number(info.uid), gid: Number(info.gid), permissions };
}

/** Below /dev these are file systems and sockets of the host's own; `console` is the host's terminal. Source: containerd pkg/oci/utils_unix.go. */
const notDevices: readonly string[] = ['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev', 'console', 'stdin', 'stdout', 'stderr', 'ptmx', 'log'];

async function devicesIn(wanted: WantedDevice): Promise<HostDevice[]> {
  const found = await Promise.all(
    (await readdir(wanted.hostPath, { withFileTypes: true })).map(async (entry): Promise<HostDevice[]> => {
      if (notDevices.includes(entry.name) || entry.isSymbolicLink()) return [];
      const below = { ...wanted, hostPath: join(wanted.hostPath, entry.name), containerPath: join(wanted.containerPath, entry.name) };
      if (entry.isDirectory()) return devicesIn(below);
      const device = await deviceAt(below);
      return device === undefined || device === 'directory' ? [] : [device];
    }),
  );
  return found.flat();
}

/** The parsed Localhost profile, when the config names one. */
export async function seccompFile(config: ContainerConfig): Promise<OciSeccomp | undefined> {
  const choice = seccompChoice(config.linux?.securityContext);
  if (choice.kind !== 'file') return undefined;
  try {
    const { size } = await stat(choice.path);
    if (size > maxSeccompBytes) throw new Fault('invalid', `seccomp profile ${choice.path}: too long (${size} bytes)`);
    return parseSeccomp(await readFile(choice.path, 'utf8'), choice.path);
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault('invalid', `seccomp profile ${choice.path}`, error);
  }
}
