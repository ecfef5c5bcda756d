/**
 * Who owns the pipes that are a process's standard streams. /dev/stdout and its like are links to them, and opening one asks for permission again: the
 * runtime gives them to the process's user, but from inside a user namespace it cannot give away what belongs to our root.
 */
import { chownSync, fchownSync, statSync } from 'node:fs';
import { hostIdOf, type IdMapping, type Owner } from '#host/id-mapping.ts';
import type { OciIdMapping, OciSpec } from './spec-types.ts';

const mappingsOf = (all: readonly OciIdMapping[] = []): IdMapping[] => all.map(({ containerID, hostID, size }) => ({ containerId: containerID, hostId: hostID, size }));

/** Undefined without a user namespace. */
function ownerOf({ process, linux }: OciSpec): Owner | undefined {
  if (linux.uidMappings === undefined) return undefined;
  return { uid: hostIdOf(mappingsOf(linux.uidMappings), process.user.uid), gid: hostIdOf(mappingsOf(linux.gidMappings), process.user.gid) };
}

/** For pipes of ours. */
export function giveStdio(spec: OciSpec, fds: readonly (number | 'null')[]): void {
  const owner = ownerOf(spec);
  if (owner === undefined) return;
  for (const fd of fds) if (fd !== 'null') fchownSync(fd, owner.uid, owner.gid);
}

/** For the pipes of a monitor, between creation and start: `pid` is then the runtime's, whose streams are already the container's. */
export function giveStdioOf(spec: OciSpec, pid: number): void {
  const owner = ownerOf(spec);
  if (owner === undefined) return;
  for (const fd of [0, 1, 2]) {
    const path = `/proc/${pid}/fd/${fd}`;
    if (statSync(path).isFIFO()) chownSync(path, owner.uid, owner.gid);
  }
}
