/** Where a container's control group is: as the OCI runtime wants to hear it (`cgroupsPath`) and as a path in the hierarchy. */
import { expandSlice } from '#host/cgroup-parse.ts';
import { Fault } from '#host/fault.ts';

export type CgroupDriver = 'cgroupfs' | 'systemd';

export interface CgroupPlace {
  /** For config.json. */
  readonly cgroupsPath: string;
  /** Below the root of the hierarchy, beginning with `/`. */
  readonly cgroupPath: string;
}

/** Of the scope units that the systemd driver makes: `cri-nodelet-<id>.scope`. */
const scopePrefix = 'cri-nodelet';

/**
 * `parent` is the sandbox's CRI `cgroup_parent`: a path for the cgroupfs driver; for systemd the name of a slice, or a path that ends in one
 * (the kubelet sends `/kubepods.slice/kubepods-burstable.slice`). Fault 'invalid' when it does not suit the driver.
 */
export function cgroupPlace(options: { driver: CgroupDriver; parent: string; id: string }): CgroupPlace {
  const { driver, parent, id } = options;
  if (parent.split('/').includes('..')) throw new Fault('invalid', `cgroup_parent ${parent}: ".." is not allowed`);
  if (driver === 'cgroupfs') {
    const path = `/${[...parent.split('/'), id].filter((part) => part !== '' && part !== '.').join('/')}`;
    return { cgroupsPath: path, cgroupPath: path };
  }
  const slice = parent.split('/').filter((part) => part !== '').at(-1) ?? 'system.slice';
  if (!slice.endsWith('.slice')) throw new Fault('invalid', `cgroup_parent ${parent}: with the systemd cgroup driver it must be a slice`);
  return { cgroupsPath: `${slice}:${scopePrefix}:${id}`, cgroupPath: `${expandSlice(slice).replace(/^\/$/, '')}/${scopePrefix}-${id}.scope` };
}

/**
 * Where a `cgroupsPath` that somebody else chose is in the hierarchy. Fault 'invalid' unless it is in the driver's notation and its last part holds the
 * container's id: the group is killed and removed with the container, so it must be the container's own.
 */
export function ownCgroup(options: { driver: CgroupDriver; cgroupsPath: string; id: string }): string {
  const { driver, cgroupsPath, id } = options;
  const invalid = (why: string): Fault => new Fault('invalid', `cgroupsPath ${JSON.stringify(cgroupsPath)}: ${why}`);
  if (cgroupsPath.split('/').includes('..')) throw invalid('".." is not allowed');
  if (driver === 'cgroupfs') {
    const parts = cgroupsPath.split('/').filter((part) => part !== '' && part !== '.');
    if (!cgroupsPath.startsWith('/') || !(parts.at(-1) ?? '').includes(id)) throw invalid(`must be an absolute path whose last part holds ${id}`);
    return `/${parts.join('/')}`;
  }
  const [slice = '', prefix = '', name = '', ...rest] = cgroupsPath.split(':');
  if (!slice.endsWith('.slice') || !name.includes(id) || rest.length > 0 || cgroupsPath.includes('/')) throw invalid(`must be SLICE:PREFIX:NAME with ${id} in NAME`);
  return `${expandSlice(slice).replace(/^\/$/, '')}/${prefix === '' ? '' : `${prefix}-`}${name}.scope`;
}
