/** Ids of a user namespace and the host's. Pure. */

/** `size` ids from `containerId` on inside are those from `hostId` on outside. */
export interface IdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

export interface IdMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

/** The owner of files that nobody inside may own: the kernel's overflow id. */
const overflowId = 65_534;

/** What `id` inside is outside. */
export function hostIdOf(mappings: readonly IdMapping[], id: number): number {
  const found = mappings.find(({ containerId, size }) => id >= containerId && id < containerId + size);
  return found === undefined ? overflowId : found.hostId + id - found.containerId;
}

/** The lines of /proc/PID/uid_map and gid_map (user_namespaces(7)). */
export const mapText = (mappings: readonly IdMapping[]): string => mappings.map(({ containerId, hostId, size }) => `${containerId} ${hostId} ${size}\n`).join('');

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Who root is outside; root itself without a user namespace. */
export const rootOf = (mappings: IdMappings | undefined): Owner =>
  mappings === undefined ? { uid: 0, gid: 0 } : { uid: hostIdOf(mappings.uids, 0), gid: hostIdOf(mappings.gids, 0) };
