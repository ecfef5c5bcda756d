/** The end of a process that was started in a running container, with all that came from it. */
import { readFileSync } from 'node:fs';
import type { Cgroups } from '#host/cgroup-types.ts';
import { identify, type ProcessId, signalProcess } from '#host/process.ts';

/** Rounds of looking: each stops those it finds, so that only what they forked just before is left for the next. */
const maxRounds = 10;

/**
 * Kills the process and all that came from it: its descendants and its session, found among the processes of the container's group. First they are
 * stopped, for whose parent dies is nobody's descendant any more.
 */
export async function killTree(cgroups: Pick<Cgroups, 'processes'>, cgroupPath: string, root: ProcessId): Promise<void> {
  const doomed = new Map<number, ProcessId>([[root.pid, root]]);
  signalProcess(root, 'SIGSTOP');
  for (let round = 0; round < maxRounds; round++) {
    const pids = await cgroups.processes(cgroupPath, { recursive: true });
    const found = [...familyOf(root.pid, [...doomed.keys()], relationsOf(pids))].filter((pid) => !doomed.has(pid)).map(identify).filter((id) => id !== undefined);
    if (found.length === 0) break;
    for (const id of found) {
      doomed.set(id.pid, id);
      signalProcess(id, 'SIGSTOP');
    }
  }
  for (const id of doomed.values()) signalProcess(id, 'SIGKILL');
}

interface Relation {
  readonly pid: number;
  readonly parentPid: number;
  readonly session: number;
}

function relationsOf(pids: readonly number[]): Relation[] {
  return pids.flatMap((pid) => {
    try {
      // proc(5): after the command in parentheses come state, parent, process group and session.
      const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [, parentPid, , session] = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number);
      return [{ pid, parentPid: parentPid ?? 0, session: session ?? 0 }];
    } catch {
      // Ended between the listing and now.
      return [];
    }
  });
}

/** Pids of the members of `root`'s session, of its descendants, and of those of the `known`. */
export function familyOf(root: number, known: readonly number[], relations: readonly Relation[]): Set<number> {
  const family = new Set([root, ...known]);
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    for (const { pid, parentPid, session } of relations) if (session === root || family.has(parentPid)) family.add(pid);
  }
  return family;
}
