/** Finds out once which cgroup hierarchies this machine has, and opens them. Use `openCgroups()` in a daemon and pass the result on. */
import type { Cgroups } from './cgroup-types.ts';

export type * from './cgroup-types.ts';

/** Detects v2 or v1/hybrid from the mounts of this process. */
export function openCgroups(): Cgroups {
  throw new Error('being written');
}
