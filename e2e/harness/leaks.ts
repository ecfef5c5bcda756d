/**
 * "Nothing left": what the machine holds before and after – processes, mounts, network namespaces, cgroups, interfaces, iptables rules, files.
 *
 * One such comparison runs at a time on a machine (a lock), or two tests would report each other. Processes below somebody else's living process
 * (a build in another terminal) are not counted: what a daemon leaves behind hangs below pid 1 or below the test.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { takeLock } from '../../hack/judges/lock.ts';
import { ownWords } from './private.ts';
import { findSystemProgram } from './tools.ts';
import { shell } from './shell.ts';

export interface LeakOptions {
  /** Folders whose whole content must be as before, besides the well-known ones. */
  readonly directories?: readonly string[];
  /** Lines that match are not leaks; say why where it is used. */
  readonly ignore?: readonly RegExp[];
  /** How long the machine may take to become quiet. Default 30 s. */
  readonly withinMs?: number;
}

/** Not below TMPDIR, which every test run has for itself. */
const lockFile = '/tmp/nodelet-e2e.lock';

/** Sorted lines, each naming one thing: `mount /a/b tmpfs`, `cgroup memory/x`, `process 12:345 conmon …`. */
type Snapshot = ReadonlySet<string>;

/** Places where nodes leave things; they need not exist. */
const wellKnown = ['/run/netns', '/run/nodelet', '/var/lib/nodelet', '/var/lib/cni', '/var/log/pods', '/var/log/containers', '/var/lib/kubelet', '/run/containerd', '/usr/libexec/kubernetes'];

/**
 * The portmap plugin makes its three top chains, and the jumps to them, once and never removes them. Every CNI node has them.
 * They are not per pod: a pod's own rules hang in CNI-DN-… and CNI-… chains and do count.
 */
const pluginRests = [/CNI-HOSTPORT-(DNAT|MASQ|SETMARK)/];

/**
 * E2E_SHARED=1 is for a machine on which other people run such tests meanwhile: nobody waits for anybody, and only what carries the name of
 * something that this process made counts. Weaker (a leaked veth has no name of ours), so CI leaves it unset.
 */
const isShared = process.env['E2E_SHARED'] === '1';
const isNamedByUs = (line: string): boolean => ownWords.values().some((word) => line.includes(word));

async function snapshot(options: LeakOptions = {}): Promise<Snapshot> {
  const lines = [
    ...processes(), ...mounts(), ...cgroups(), ...readdirSync('/sys/class/net').map((name) => `interface ${name}`), ...await iptables(),
    ...[...wellKnown, ...(options.directories ?? [])].flatMap((dir) => files(dir)),
  ];
  const ignore = [...pluginRests, ...(options.ignore ?? [])];
  const counts = new Map<string, number>();
  const counted = lines.filter((each) => !ignore.some((pattern) => pattern.test(each)) && (!isShared || each.startsWith('process ') || isNamedByUs(each)));
  for (const line of counted) counts.set(line, (counts.get(line) ?? 0) + 1);
  return new Set([...counts].flatMap(([line, count]) => [line, ...Array.from({ length: count - 1 }, (_, i) => `${line} (${i + 2})`)]));
}

/** What is there now and was not before. Things that went away are nobody's leak. */
const leftBehind = (before: Snapshot, now: Snapshot): string[] => [...now.difference(before)].sort();

/**
 * Runs `body` and then waits until the machine is as it was; throws with the list of what is left.
 * When `body` throws, its error is thrown, with the leaks appended to its message.
 */
export async function nothingLeft(body: () => Promise<void>, options: LeakOptions = {}): Promise<void> {
  using _one = isShared ? undefined : await takeLock(lockFile, { onWait: (holder) => { console.error(`waiting for ${holder}, which runs an end-to-end test too`); } });
  const before = await snapshot(options);
  let failure: Error | undefined;
  try { await body(); } catch (e) { failure = e instanceof Error ? e : new Error(String(e)); }
  const left = await untilQuiet(before, options);
  if (failure !== undefined) {
    if (left.length > 0) failure.message += `\nand it left behind:\n${list(left)}`;
    throw failure;
  }
  if (left.length > 0) throw new Error(`left behind:\n${list(left)}`);
}

const list = (left: readonly string[]): string => left.slice(0, 60).map((each) => `  ${each}`).join('\n') + (left.length > 60 ? `\n  … and ${left.length - 60} more` : '');

async function untilQuiet(before: Snapshot, options: LeakOptions): Promise<string[]> {
  const deadline = Date.now() + (options.withinMs ?? 30_000);
  for (;;) {
    const left = leftBehind(before, await snapshot(options));
    if (left.length === 0 || Date.now() > deadline) return left;
    await sleep(300);
  }
}

interface Process { readonly pid: number; readonly parent: number; readonly startTicks: string; readonly command: string }

function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 160);
    return { pid, parent: Number(fields[1]), startTicks: fields[19] ?? '', command: command === '' ? `${stat.slice(stat.indexOf('('), stat.lastIndexOf(')') + 1)} ${fields[0]}` : command };
  } catch { return undefined; } // it ended meanwhile
}

/** When this module was loaded, in the unit of /proc/PID/stat: a process that is older is somebody else's, and so is what it starts. */
const ourStart = BigInt(readProcess(process.pid)?.startTicks ?? '0');

function processes(): string[] {
  const all = new Map<number, Process>();
  for (const name of readdirSync('/proc')) {
    const found = /^\d+$/.test(name) ? readProcess(Number(name)) : undefined;
    if (found !== undefined) all.set(found.pid, found);
  }
  return [...all.values()].filter((each) => isOurs(all, each)).flatMap((each) => [`process ${each.pid}:${each.startTicks} ${each.command}`, ...namespaceOf(each)]);
}

/** By its whole command line or its cgroup. */
function hasOwnName({ pid }: Process): boolean {
  try {
    return isNamedByUs(readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') + readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
  } catch { return false; }
}

/** A kernel thread is not; nor is what hangs below a process that is older than this test and is not pid 1. */
function isOurs(all: ReadonlyMap<number, Process>, process_: Process): boolean {
  let isNamed = !isShared;
  for (let each: Process | undefined = process_; each !== undefined; each = all.get(each.parent)) {
    if (each.pid === 2 || each.pid === process.pid) return each.pid === process.pid && process_.pid !== process.pid;
    if (each.pid === 1) return process_.pid !== 1 && isNamed;
    if (BigInt(each.startTicks) < ourStart) return false;
    isNamed ||= hasOwnName(each);
  }
  return true;
}

const ourNetwork = readlinkSync('/proc/self/ns/net');
function namespaceOf({ pid }: Process): string[] {
  try {
    const network = readlinkSync(`/proc/${pid}/ns/net`);
    return network === ourNetwork ? [] : [`network namespace ${network} of process ${pid}`];
  } catch { return []; }
}

/** Pinned namespaces are among these: nsfs mounts, whose root names them. */
function mounts(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n').map((line) => {
    const [, , , root, point, , ...rest] = line.split(' ');
    const type = rest[rest.indexOf('-') + 1];
    return `mount ${point} ${type}${type === 'nsfs' ? ` ${root}` : ''}`;
  });
}

/** Every group of every hierarchy; v1, v2 and hybrid look the same from here. */
function cgroups(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => / - cgroup2? /.test(line)).flatMap((line) => {
    const root = line.split(' ')[4] ?? '';
    return folders(root).map((each) => `cgroup ${path.relative('/sys/fs/cgroup', each)}`);
  });
}

function folders(root: string): string[] {
  try {
    return readdirSync(root, { withFileTypes: true }).filter((each) => each.isDirectory())
      .flatMap((each) => [path.join(root, each.name), ...folders(path.join(root, each.name))]);
  } catch { return []; } // the group went away meanwhile
}

/** All paths below `dir`, without crossing into mounted file systems (those are listed as mounts). */
function files(dir: string): string[] {
  const walk = (at: string, device: number): string[] => {
    try {
      const stat = statSync(at);
      if (stat.dev !== device) return [`file ${at}`];
      return [`file ${at}`, ...(stat.isDirectory() ? readdirSync(at, { withFileTypes: true }).flatMap((each) =>
        each.isDirectory() ? walk(path.join(at, each.name), device) : [`file ${path.join(at, each.name)}`]) : [])];
    } catch { return []; }
  };
  try { return walk(dir, statSync(dir).dev); } catch { return []; }
}

async function iptables(): Promise<string[]> {
  const lines: string[] = [];
  for (const program of ['iptables-save', 'ip6tables-save']) {
    const file = findSystemProgram(program);
    if (file === undefined) continue;
    let table = '';
    for (const line of (await shell(file, [])).split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      else if (line.startsWith('-A') || /^:\S+ -/.test(line)) lines.push(`${program.replace('-save', '')} ${table}: ${line.replace(/ \[\d+:\d+\]$/, '')}`);
    }
  }
  return lines;
}
