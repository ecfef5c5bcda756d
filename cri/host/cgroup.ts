/** Finds out which cgroup hierarchies this machine has, and opens them. A daemon calls `openCgroups()` once and passes the result on. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCgroupMounts } from './cgroup-parse.ts';
import type { Cgroups } from './cgroup-types.ts';
import { CgroupsV1 } from './cgroup-v1.ts';
import { CgroupsV2 } from './cgroup-v2.ts';
import { Fault } from './fault.ts';

export type * from './cgroup-types.ts';

/** v1 as soon as one v1 controller is mounted (hybrid included), else v2. Throws Fault 'precondition' when there is neither. */
export function openCgroups(mountinfoFile = '/proc/self/mountinfo'): Cgroups {
  const mounts = parseCgroupMounts(readFileSync(mountinfoFile, 'utf8'));
  // The kernel was built with it and not started with psi=0 (Documentation/accounting/psi.rst).
  const hasPressure = existsSync('/proc/pressure/cpu');
  if ([...mounts.v1.keys()].some((name) => !name.startsWith('name='))) return new CgroupsV1(mounts, hasPressure);
  if (mounts.unified === undefined) throw new Fault('precondition', 'no cgroup hierarchy is mounted (expected cgroup2 on /sys/fs/cgroup)');
  return new CgroupsV2(mounts.unified, readFileSync(join(mounts.unified, 'cgroup.controllers'), 'utf8'), hasPressure);
}
