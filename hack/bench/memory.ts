/** What a server's processes cost in memory: PSS, which counts a page shared by n processes as 1/n in each. Reads /proc. */
import { readdirSync, readFileSync } from 'node:fs';
import { workloadMark } from './pod.ts';

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly commandLine: string;
}

function processes(): Process[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      return [{ pid: Number(name), parent, commandLine: readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' ') }];
    } catch {
      return []; // gone in between
    }
  });
}

function pssKiB(pid: number): number {
  try {
    return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

export interface Usage {
  readonly daemonMiB: number;
  /** Monitors, shims, pause containers: what is there because of pods. The workload itself is left out. */
  readonly podsMiB: number;
  readonly podProcesses: number;
}

/** The daemon and what is there because of its pods, the workload left out. */
export const processesOf = (daemonPid: number, dir: string): number[] => [daemonPid, ...podProcesses(processes(), daemonPid, dir)];

/** `dir` occurs in the command lines of everything the daemon starts for its pods; their children belong to them. */
function podProcesses(all: readonly Process[], daemonPid: number, dir: string): number[] {
  const ours = new Set(all.filter(({ pid, commandLine }) => pid !== process.pid && commandLine.includes(dir)).map(({ pid }) => pid));
  ours.add(daemonPid);
  for (let grown = true; grown; ) {
    const before = ours.size;
    for (const { pid, parent } of all) if (ours.has(parent)) ours.add(pid);
    grown = ours.size > before;
  }
  return all.filter(({ pid, commandLine }) => ours.has(pid) && pid !== daemonPid && !commandLine.split(' ').includes(workloadMark)).map(({ pid }) => pid);
}

export function measureMemory(daemonPid: number, dir: string): Usage {
  const forPods = podProcesses(processes(), daemonPid, dir);
  const podsKiB = forPods.reduce((sum, pid) => sum + pssKiB(pid), 0);
  return { daemonMiB: pssKiB(daemonPid) / 1024, podsMiB: podsKiB / 1024, podProcesses: forPods.length };
}
