/**
 * The namespaces of a pod, pinned without any process: the main thread leaves its own, binds the new ones to files, and comes back.
 *
 *   unshare(net, ipc, uts) → host name, sysctls, lo up → bind /proc/thread-self/ns/* → setns back            (0.7 ms, all synchronous)
 *
 * Nothing may run in between: no await, and no thread may be created, for it would inherit the pod's namespaces. libuv's pool is
 * created by the first call that needs it: `warmThreadPool` must have been awaited before the first excursion.
 * If the way back fails the process ends at once: work in somebody else's network would be worse.
 */
import { closeSync, mkdirSync, openSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, ioctl, MNT_DETACH, mountSync, setns, sethostname, socket, SOCK_CLOEXEC, umountSync, unshare } from './libc.ts';
import { MS_BIND } from './mount-flags.ts';

export type NamespaceKind = 'net' | 'ipc' | 'uts';
const cloneFlag: Readonly<Record<NamespaceKind, number>> = { net: CLONE_NEWNET, ipc: CLONE_NEWIPC, uts: CLONE_NEWUTS };

/** A user namespace is pinned beside the ones that it owns (see user-namespace.ts). */
export type PinKind = NamespaceKind | 'user';

const home = new Map<NamespaceKind, number>();
function homeFd(kind: NamespaceKind): number {
  let fd = home.get(kind);
  if (fd === undefined) {
    fd = openSync(`/proc/thread-self/ns/${kind}`, 'r');
    home.set(kind, fd);
  }
  return fd;
}

/** Creates libuv's threads now, in the host's namespaces, by keeping all of them busy at once. */
export async function warmThreadPool(): Promise<void> {
  const threads = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);
  await Promise.all(Array.from({ length: Math.max(threads, cpus().length) }, () => stat('/')));
  await readFile('/proc/self/stat');
}

export interface PinRequest {
  /** Gets one file per kind, named as in /proc/PID/ns; made when absent. */
  readonly dir: string;
  readonly kinds: readonly NamespaceKind[];
  /** For a new uts namespace. */
  readonly hostname?: string;
  /** `net.ipv4.ip_forward` → value; written inside the new namespaces. */
  readonly sysctls?: Readonly<Record<string, string>>;
}

export const namespacePath = (dir: string, kind: PinKind): string => `${dir}/${kind}`;

/** Makes and pins the namespaces, with `lo` up. Synchronous. After a failure nothing is pinned and the directory is gone. */
export function pinNamespaces(request: PinRequest): void {
  if (request.kinds.length === 0) return;
  const fds = request.kinds.map((kind): [NamespaceKind, number] => [kind, homeFd(kind)]);
  makePinTargets(request.dir, request.kinds);
  unshare(request.kinds.reduce((flags, kind) => flags | cloneFlag[kind], 0));
  try {
    furnish(request);
    for (const kind of request.kinds) {
      mountSync({ source: `/proc/thread-self/ns/${kind}`, target: namespacePath(request.dir, kind), type: null, flags: MS_BIND, data: null });
    }
  } catch (error) {
    comeHome(fds);
    unpinNamespaces(request.dir);
    throw error;
  }
  comeHome(fds);
}

/** The directory with an empty file for each pin. */
export function makePinTargets(dir: string, kinds: readonly PinKind[]): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  for (const kind of kinds) closeSync(openSync(namespacePath(dir, kind), 'w', 0o600));
}

/** For who is inside the new namespaces: host name, `lo`, sysctls. */
export function furnish(request: Pick<PinRequest, 'kinds' | 'hostname' | 'sysctls'>): void {
  if (request.hostname !== undefined && request.kinds.includes('uts')) sethostname(request.hostname);
  if (request.kinds.includes('net')) setLoopbackUp();
  for (const [name, value] of Object.entries(request.sysctls ?? {})) writeSysctl(name, value);
}

function writeSysctl(name: string, value: string): void {
  try {
    writeFileSync(sysctlPath(name), value);
  } catch (error) {
    throw new Fault('invalid', `sysctl ${name}=${value}: ${isErrno(error, 'ENOENT') ? 'this kernel does not have it for a pod' : 'the kernel refuses it'}`, error);
  }
}

/**
 * The file below /proc/sys. As sysctl(8): the first separator decides; with dots, a slash stands for a dot inside a name
 * (`net.ipv4.conf.eth0/100.forwarding`).
 */
export function sysctlPath(name: string): string {
  const dotted = /[./]/.exec(name)?.[0] === '.';
  return `/proc/sys/${dotted ? name.replaceAll(/[./]/g, (separator) => (separator === '.' ? '/' : '.')) : name}`;
}

function comeHome(fds: readonly (readonly [NamespaceKind, number])[]): void {
  try {
    for (const [kind, fd] of fds) setns(fd, cloneFlag[kind]);
  } catch (error) {
    process.stderr.write(`nodelet: cannot return to the host's namespaces: ${String(error)}\n`);
    process.abort();
  }
}

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
function setLoopbackUp(): void {
  const fd = socket(2 /* AF_INET */, 2 /* SOCK_DGRAM */ | SOCK_CLOEXEC, 0);
  try {
    const request = Buffer.alloc(40);
    request.write('lo');
    ioctl(fd, SIOCGIFFLAGS, request);
    request.writeUInt16LE(request.readUInt16LE(16) | IFF_UP, 16);
    ioctl(fd, SIOCSIFFLAGS, request);
  } finally {
    closeSync(fd);
  }
}

/** Takes the pins away and removes the directory. The namespaces end with their last process. Absent is success: may run twice. */
export function unpinNamespaces(dir: string): void {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    try {
      umountSync(`${dir}/${name}`, MNT_DETACH);
    } catch (error) {
      if (!isErrno(error, 'EINVAL', 'ENOENT')) throw error;
    }
    unlinkSync(`${dir}/${name}`);
  }
  rmdirSync(dir);
}

/** Runs a synchronous function (open a socket, read a counter) in the network namespace at `path`. What it opens stays there. */
export const inNetworkNamespace = <T>(path: string, task: () => T extends Promise<unknown> ? never : T): T => inNamespaces([['net', path]], task);

/** The same in several namespaces at once, each given by its pin. */
export function inNamespaces<T>(pins: readonly (readonly [NamespaceKind, string])[], task: () => T extends Promise<unknown> ? never : T): T {
  const back = pins.map(([kind]): [NamespaceKind, number] => [kind, homeFd(kind)]);
  const there: [NamespaceKind, number][] = [];
  try {
    for (const [kind, path] of pins) there.push([kind, openSync(path, 'r')]);
    try {
      for (const [kind, fd] of there) setns(fd, cloneFlag[kind]);
      return task();
    } finally {
      comeHome(back);
    }
  } finally {
    for (const [, fd] of there) closeSync(fd);
  }
}
