/** Device nodes of a container and the rules of its device cgroup. */
import { Fault } from '#host/fault.ts';
import type { OciDevice, OciDeviceRule } from '../oci/spec-types.ts';

/** A device of the host as stat(2) shows it, and where the container wants it. */
export interface HostDevice {
  readonly containerPath: string;
  readonly type: 'c' | 'b';
  readonly major: number;
  readonly minor: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Subset of `rwm`. */
  readonly permissions: string;
}

/** Linux's 64-bit dev_t (makedev(3)): minor's low byte, twelve bits of major, the rest of both. */
export function deviceNumbers(rdev: bigint): { major: number; minor: number } {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return { major: Number(BigInt.asUintN(32, major)), minor: Number(BigInt.asUintN(32, minor)) };
}

/** Empty means `rwm`. Fault 'invalid' for other letters. */
export function devicePermissions(permissions: string): string {
  if (permissions === '') return 'rwm';
  if (!/^[rwm]{1,3}$/.test(permissions)) throw new Fault('invalid', `device permissions ${JSON.stringify(permissions)}: only r, w and m are allowed`);
  return permissions;
}

export interface DeviceSpec {
  readonly devices: readonly OciDevice[];
  readonly rules: readonly OciDeviceRule[];
}

/** Everything is denied but what is listed here and the usual nodes (null, zero, pts…) which the OCI runtime adds; privileged: all allowed. */
export function deviceSpec(devices: readonly HostDevice[], options: { privileged: boolean }): DeviceSpec {
  // A later entry for the same place wins.
  const byPath = new Map(devices.map((device) => [device.containerPath, device]));
  return {
    devices: [...byPath.values()].map(({ containerPath, type, major, minor, mode, uid, gid }) => ({ path: containerPath, type, major, minor, fileMode: mode & 0o777, uid, gid })),
    rules: options.privileged
      ? [{ allow: true, access: 'rwm' }]
      : [{ allow: false, access: 'rwm' }, ...devices.map(({ type, major, minor, permissions }) => ({ allow: true, type, major, minor, access: permissions }))],
  };
}
