/**
 * libc and syscall(2), typed: the only file that imports koffi.
 *
 * Every function throws SyscallError on failure, with errno read in the statement after the call (a Node fs call in between would
 * overwrite it). Calls that may block for long have a Promise form which runs in libuv's pool (UV_THREADPOOL_SIZE=16); the others are
 * short and synchronous. Flag numbers are those of linux/*.h on x86_64 and arm64, where they agree.
 */
import koffi from 'koffi';
import { SyscallError } from './errno.ts';

const libc = koffi.load('libc.so.6');
type Native = ReturnType<typeof libc.func>;
type Argument = string | number | bigint | Uint8Array | null | readonly (string | null)[] | number[];

const define = (signature: string): Native => libc.func(signature);

function call(name: string, fn: Native, args: readonly Argument[], path?: string): number {
  const result = Number(fn(...args));
  if (result < 0) throw new SyscallError(name, koffi.errno(), path);
  return result;
}

function callAsync(name: string, fn: Native, args: readonly Argument[], path?: string): Promise<number> {
  return new Promise((resolve, reject) => {
    fn.async(...args, (failure: unknown, result: number | bigint) => {
      const errno = koffi.errno();
      if (failure !== null && failure !== undefined) reject(failure instanceof Error ? failure : new Error(String(failure)));
      else if (Number(result) < 0) reject(new SyscallError(name, errno, path));
      else resolve(Number(result));
    });
  });
}

export const AT_FDCWD = -100;

// --- mounts -----------------------------------------------------------------------------------------------------------------------

const mountFn = define('int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)');
const umount2Fn = define('int umount2(const char *target, int flags)');
const openTreeFn = define('int open_tree(int dfd, const char *path, uint flags)');
const moveMountFn = define('int move_mount(int fromDfd, const char *from, int toDfd, const char *to, uint flags)');
const mountSetattrFn = define('int mount_setattr(int dfd, const char *path, uint flags, void *attr, ulong size)');
const fsopenFn = define('int fsopen(const char *name, uint flags)');
const fsconfigFn = define('int fsconfig(int fd, uint cmd, const char *key, const char *value, int aux)');
const fsmountFn = define('int fsmount(int fd, uint flags, uint attr)');

export interface MountArgs {
  readonly source: string | null;
  readonly target: string;
  readonly type: string | null;
  readonly flags: number;
  readonly data: string | null;
}
const mountArgs = (m: MountArgs): Argument[] => [m.source, m.target, m.type, m.flags, m.data];

/** mount(2) in the pool: it may block in the file system. */
export const mountAsync = (m: MountArgs): Promise<number> => callAsync('mount', mountFn, mountArgs(m), m.target);
/** mount(2) at once: for the excursions in namespaces.ts, where nothing may be awaited. */
export const mountSync = (m: MountArgs): number => call('mount', mountFn, mountArgs(m), m.target);
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;
export const umountAsync = (target: string, flags: number): Promise<number> => callAsync('umount2', umount2Fn, [target, flags], target);
export const umountSync = (target: string, flags: number): number => call('umount2', umount2Fn, [target, flags], target);
export const openTree = (dirFd: number, path: string, flags: number): number => call('open_tree', openTreeFn, [dirFd, path, flags], path);
export const moveMount = (fromFd: number, toPath: string): Promise<number> =>
  callAsync('move_mount', moveMountFn, [fromFd, '', AT_FDCWD, toPath, 4 /* MOVE_MOUNT_F_EMPTY_PATH */], toPath);
/** `attr` is struct mount_attr, 32 bytes. */
export const mountSetattr = (fd: number, flags: number, attr: Uint8Array): number => call('mount_setattr', mountSetattrFn, [fd, '', flags, attr, attr.length]);
export const fsopen = (type: string): number => call('fsopen', fsopenFn, [type, 1 /* CLOEXEC */], type);
export const fsconfigString = (fd: number, key: string, value: string): number => call('fsconfig', fsconfigFn, [fd, 1, key, value, 0], `${key}=${value}`);
export const fsconfigFlag = (fd: number, key: string): number => call('fsconfig', fsconfigFn, [fd, 0, key, null, 0], key);
export const fsconfigCreate = (fd: number): Promise<number> => callAsync('fsconfig', fsconfigFn, [fd, 6, null, null, 0]);
export const fsmount = (fd: number, attributes: number): number => call('fsmount', fsmountFn, [fd, 1 /* CLOEXEC */, attributes]);

// --- namespaces -------------------------------------------------------------------------------------------------------------------

const unshareFn = define('int unshare(int flags)');
const setnsFn = define('int setns(int fd, int type)');
const sethostnameFn = define('int sethostname(const char *name, ulong length)');
export const CLONE_NEWNET = 0x40000000;
export const CLONE_NEWIPC = 0x08000000;
export const CLONE_NEWUTS = 0x04000000;
export const unshare = (flags: number): number => call('unshare', unshareFn, [flags]);
export const setns = (fd: number, type: number): number => call('setns', setnsFn, [fd, type]);
export const sethostname = (name: string): number => call('sethostname', sethostnameFn, [name, Buffer.byteLength(name)]);

// --- processes --------------------------------------------------------------------------------------------------------------------

const pidfdOpenFn = define('int pidfd_open(int pid, uint flags)');
const pidfdSendSignalFn = define('int pidfd_send_signal(int fd, int signal, void *info, uint flags)');
const waitpidFn = define('int waitpid(int pid, _Out_ int *status, int options)');
const prctlFn = define('int prctl(int option, ulong a, ulong b, ulong c, ulong d)');
const pipe2Fn = define('int pipe2(void *fds, int flags)');
const posixSpawn = define('int posix_spawn(_Out_ int *pid, const char *path, void *actions, void *attr, const char **argv, const char **envp)');
const actionsInit = define('int posix_spawn_file_actions_init(void *actions)');
const actionsDestroy = define('int posix_spawn_file_actions_destroy(void *actions)');
const actionsDup2 = define('int posix_spawn_file_actions_adddup2(void *actions, int fd, int newFd)');
const actionsOpen = define('int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, int mode)');
const actionsChdir = define('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
const socketpairFn = define('int socketpair(int domain, int type, int protocol, void *fds)');
const attrInit = define('int posix_spawnattr_init(void *attr)');
const attrFlags = define('int posix_spawnattr_setflags(void *attr, short flags)');
const attrSigmask = define('int posix_spawnattr_setsigmask(void *attr, void *set)');
const attrSigdefault = define('int posix_spawnattr_setsigdefault(void *attr, void *set)');

export const pidfdOpen = (pid: number): number => call('pidfd_open', pidfdOpenFn, [pid, 0], String(pid));
export const pidfdSendSignal = (fd: number, signal: number): number => call('pidfd_send_signal', pidfdSendSignalFn, [fd, signal, null, 0]);

/** From now on, descendants whose parent has ended become our children (PR_SET_CHILD_SUBREAPER), until we end. */
export const becomeSubreaper = (): number => call('prctl', prctlFn, [36, 1, 0, 0, 0]);

/** The wait status of the child when it has ended (and reaps it), undefined while it runs. */
export function reapChild(pid: number): number | undefined {
  const status = [0];
  return call('waitpid', waitpidFn, [pid, status, 1 /* WNOHANG */], String(pid)) === 0 ? undefined : status[0];
}

/** A close-on-exec pipe, optionally non-blocking on both ends. */
export function pipe(): { readFd: number; writeFd: number } {
  const fds = Buffer.alloc(8);
  call('pipe2', pipe2Fn, [fds, 0x80000 /* O_CLOEXEC */]);
  return { readFd: fds.readInt32LE(0), writeFd: fds.readInt32LE(4) };
}

/** Two connected unix stream sockets, close-on-exec. */
export function socketPair(): [number, number] {
  const fds = Buffer.alloc(8);
  call('socketpair', socketpairFn, [1 /* AF_UNIX */, 1 /* SOCK_STREAM */ | 0x80000 /* SOCK_CLOEXEC */, 0, fds]);
  return [fds.readInt32LE(0), fds.readInt32LE(4)];
}

let spawnAttributes: Buffer | undefined;
/** Own session, default signal dispositions, no blocked signals. */
function defaultSpawnAttributes(): Buffer {
  if (spawnAttributes !== undefined) return spawnAttributes;
  const attr = Buffer.alloc(512);
  attrInit(attr);
  attrSigdefault(attr, Buffer.alloc(128, 0xff));
  attrSigmask(attr, Buffer.alloc(128));
  attrFlags(attr, 0x04 | 0x08 | 0x80 /* SETSIGDEF | SETSIGMASK | SETSID */);
  spawnAttributes = attr;
  return attr;
}

export interface SpawnArgs {
  readonly path: string;
  /** With argv[0]. */
  readonly argv: readonly string[];
  /** `KEY=value` words. */
  readonly env: readonly string[];
  readonly cwd: string | undefined;
  /** Child descriptor → ours, or /dev/null; the child has no others. */
  readonly fds: Readonly<Record<number, number | 'null'>>;
}

/**
 * posix_spawn(3): CLONE_VM|CLONE_VFORK, so its cost does not grow with our memory as fork's does (0.3 ms against 7 at 118 MB).
 * Returns the pid, whose parent we are: reap it. ENOENT and the like of the exec itself are thrown here.
 */
export function spawnProcess(args: SpawnArgs): number {
  const actions = Buffer.alloc(256);
  actionsInit(actions);
  try {
    for (const [childFd, source] of Object.entries(args.fds)) {
      if (source === 'null') actionsOpen(actions, Number(childFd), '/dev/null', 2, 0);
      else actionsDup2(actions, source, Number(childFd));
    }
    if (args.cwd !== undefined) actionsChdir(actions, args.cwd);
    const pid = [0];
    const errno = Number(posixSpawn(pid, args.path, actions, defaultSpawnAttributes(), [...args.argv, null], [...args.env, null]));
    if (errno !== 0) throw new SyscallError('posix_spawn', errno, args.path);
    return pid[0] ?? 0;
  } finally {
    actionsDestroy(actions);
  }
}

// --- epoll and eventfd ------------------------------------------------------------------------------------------------------------

const epollCreate1Fn = define('int epoll_create1(int flags)');
const epollCtlFn = define('int epoll_ctl(int ep, int op, int fd, void *event)');
const epollWaitFn = define('int epoll_wait(int ep, void *events, int max, int timeout)');
const eventfdFn = define('int eventfd(uint initial, int flags)');
export const epollCreate = (): number => call('epoll_create1', epollCreate1Fn, [0x80000]);
/** `event` is struct epoll_event. */
export const epollControl = (ep: number, op: 'add' | 'delete' | 'modify', fd: number, event: Uint8Array | null): number =>
  call('epoll_ctl', epollCtlFn, [ep, { add: 1, delete: 2, modify: 3 }[op], fd, event], `fd ${fd}`);
/** Waits without limit in a pool thread. */
export const epollWait = (ep: number, events: Uint8Array, max: number): Promise<number> => callAsync('epoll_wait', epollWaitFn, [ep, events, max, -1]);
export const eventfd = (): number => call('eventfd', eventfdFn, [0, 0x80800 /* CLOEXEC | NONBLOCK */]);

// --- sockets ----------------------------------------------------------------------------------------------------------------------

const socketFn = define('int socket(int domain, int type, int protocol)');
const connectFn = define('int connect(int fd, const void *address, uint length)');
const sendFn = define('long send(int fd, const void *data, ulong length, int flags)');
const recvFn = define('long recv(int fd, void *buffer, ulong length, int flags)');
const shutdownFn = define('int shutdown(int fd, int how)');
const bindFn = define('int bind(int fd, const void *address, uint length)');
const listenFn = define('int listen(int fd, int backlog)');
const accept4Fn = define('int accept4(int fd, void *address, void *length, int flags)');
const getsockoptFn = define('int getsockopt(int fd, int level, int name, void *value, void *length)');
const pollFn = define('int poll(void *fds, ulong count, int timeout)');
const iovec = koffi.struct('iovec', { base: 'void *', length: 'ulong' });
const msghdr = koffi.struct('msghdr', {
  name: 'void *', nameLength: 'uint', iov: koffi.pointer(iovec), iovCount: 'ulong', control: 'void *', controlLength: 'ulong', flags: 'int',
});
const recvmsgFn = libc.func('recvmsg', 'long', ['int', koffi.inout(koffi.pointer(msghdr)), 'int']);
const ioctlFn = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);
export const SOCK_CLOEXEC = 0x80000;
export const SOCK_NONBLOCK = 0x800;
export const socket = (domain: number, type: number, protocol: number): number => call('socket', socketFn, [domain, type, protocol]);
export const connectSync = (fd: number, address: Uint8Array): number => call('connect', connectFn, [fd, address, address.length]);
export const connectAsync = (fd: number, address: Uint8Array): Promise<number> => callAsync('connect', connectFn, [fd, address, address.length]);
export const send = (fd: number, data: Uint8Array, flags: number): number => call('send', sendFn, [fd, data, data.length, flags]);
export const recv = (fd: number, buffer: Uint8Array, flags: number): number => call('recv', recvFn, [fd, buffer, buffer.length, flags]);
export const shutdown = (fd: number, how: 0 | 1 | 2): number => call('shutdown', shutdownFn, [fd, how]);
export const bind = (fd: number, address: Uint8Array): number => call('bind', bindFn, [fd, address, address.length]);
export const listen = (fd: number, backlog: number): number => call('listen', listenFn, [fd, backlog]);
/** The new descriptor is non-blocking and close-on-exec. */
export const accept = (fd: number): number => call('accept4', accept4Fn, [fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK]);
/** What became of a connect that was in progress: 0 or an errno (SO_ERROR). */
export function socketError(fd: number): number {
  const value = Buffer.alloc(4);
  const length = Buffer.from([4, 0, 0, 0]);
  call('getsockopt', getsockoptFn, [fd, 1 /* SOL_SOCKET */, 4 /* SO_ERROR */, value, length]);
  return value.readInt32LE();
}

/** True when a read would return data now (of a terminal too, whose data the kernel passes on only when asked). */
export function hasInput(fd: number): boolean {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(1 /* POLLIN */, 4);
  call('poll', pollFn, [entry, 1, 0]);
  return (entry.readInt16LE(6) & 1) !== 0;
}

/** The descriptor in the next message of a unix socket (unix(7), SCM_RIGHTS), close-on-exec; undefined when the message carries none. */
export function receiveDescriptor(fd: number): number | undefined {
  const data = Buffer.alloc(4096);
  const control = Buffer.alloc(24); // room for one: the kernel closes what is more
  const message = { name: null, nameLength: 0, iov: [{ base: data, length: data.length }], iovCount: 1, control, controlLength: control.length, flags: 0 };
  const received = Number(recvmsgFn(fd, message, 0x40000000 /* MSG_CMSG_CLOEXEC */));
  const errno = koffi.errno();
  if (received < 0) throw new SyscallError('recvmsg', errno);
  // struct cmsghdr: length, level, type; then the descriptors.
  const isRights = Number(message.controlLength) >= 20 && control.readInt32LE(8) === 1 /* SOL_SOCKET */ && control.readInt32LE(12) === 1 /* SCM_RIGHTS */;
  return isRights ? control.readInt32LE(16) : undefined;
}
export const ioctl = (fd: number, request: number, argument: Uint8Array): number => call('ioctl', ioctlFn, [fd, request, argument]);

// --- files beneath a directory: for paths that come from outside --------------------------------------------------------------------

const openat2Fn = libc.func('syscall', 'long', ['long', 'int', 'const char *', 'void *', 'ulong']);
const mkdiratFn = define('int mkdirat(int dfd, const char *path, uint mode)');
const mknodatFn = define('int mknodat(int dfd, const char *path, uint mode, ulong device)');
const symlinkatFn = define('int symlinkat(const char *target, int dfd, const char *path)');
const linkatFn = define('int linkat(int fromDfd, const char *from, int toDfd, const char *to, int flags)');
const unlinkatFn = define('int unlinkat(int dfd, const char *path, int flags)');
const fchownatFn = define('int fchownat(int dfd, const char *path, uint uid, uint gid, int flags)');
const fchmodatFn = define('int fchmodat(int dfd, const char *path, uint mode, int flags)');
const utimensatFn = define('int utimensat(int dfd, const char *path, void *times, int flags)');
const fsetxattrFn = define('int fsetxattr(int fd, const char *name, const void *value, ulong size, int flags)');
const lsetxattrFn = define('int lsetxattr(const char *path, const char *name, const void *value, ulong size, int flags)');
const lgetxattrFn = define('long lgetxattr(const char *path, const char *name, void *value, ulong size)');
const syncfsFn = define('int syncfs(int fd)');
const flockFn = define('int flock(int fd, int operation)');
const umaskFn = define('uint umask(uint mask)');

export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;
export const RESOLVE_IN_ROOT = 0x10;

/** openat2(2): opens `path` below `dirFd` under the rules in `resolve`; the caller closes the descriptor. */
export function openat2(dirFd: number, path: string, options: { flags: number; mode?: number; resolve: number }): number {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(options.flags | 0x80000 /* O_CLOEXEC */), 0);
  how.writeBigUInt64LE(BigInt(options.mode ?? 0), 8);
  how.writeBigUInt64LE(BigInt(options.resolve), 16);
  return call('openat2', openat2Fn, [437, dirFd, path, how, 24], path);
}

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;
export const mkdirAt = (dirFd: number, name: string, mode: number): number => call('mkdirat', mkdiratFn, [dirFd, name, mode], name);
/** `mode` with its S_IF… type bits; `device` as makedev(3) encodes it. */
export const mknodAt = (dirFd: number, name: string, mode: number, device: number): number => call('mknodat', mknodatFn, [dirFd, name, mode, device], name);
export const symlinkAt = (target: string, dirFd: number, name: string): number => call('symlinkat', symlinkatFn, [target, dirFd, name], name);
export const linkAt = (fromFd: number, from: string, toFd: number, to: string): number => call('linkat', linkatFn, [fromFd, from, toFd, to, 0], to);
export const unlinkAt = (dirFd: number, name: string): number => call('unlinkat', unlinkatFn, [dirFd, name, 0], name);
export const rmdirAt = (dirFd: number, name: string): number => call('unlinkat', unlinkatFn, [dirFd, name, AT_REMOVEDIR], name);
export const chownAt = (dirFd: number, name: string, uid: number, gid: number): number =>
  call('fchownat', fchownatFn, [dirFd, name, uid, gid, AT_SYMLINK_NOFOLLOW], name);
/** Follows a symlink in the last component (Linux has no other): the caller knows that it is none. */
export const chmodAt = (dirFd: number, name: string, mode: number): number => call('fchmodat', fchmodatFn, [dirFd, name, mode, 0], name);
/** Sets access and modification time without following a symlink. */
export function utimesAt(dirFd: number, name: string, time: { seconds: bigint; nanoseconds: number }): void {
  const times = Buffer.alloc(32);
  for (const offset of [0, 16]) {
    times.writeBigInt64LE(time.seconds, offset);
    times.writeBigInt64LE(BigInt(time.nanoseconds), offset + 8);
  }
  call('utimensat', utimensatFn, [dirFd, name, times, AT_SYMLINK_NOFOLLOW], name);
}
export const setXattrFd = (fd: number, name: string, value: Uint8Array): number => call('fsetxattr', fsetxattrFn, [fd, name, value, value.length, 0], name);
/** Does not follow a symlink in the last component. */
export const setXattr = (path: string, name: string, value: Uint8Array): number => call('lsetxattr', lsetxattrFn, [path, name, value, value.length, 0], path);
/** The value, or undefined where there is none. */
export function getXattr(path: string, name: string): Uint8Array | undefined {
  const value = Buffer.alloc(65_536);
  const size = Number(lgetxattrFn(path, name, value, value.length));
  const errno = koffi.errno();
  if (size >= 0) return value.subarray(0, size);
  const error = new SyscallError('lgetxattr', errno, path);
  if (error.code === 'ENODATA' || error.code === 'EOPNOTSUPP') return undefined;
  throw error;
}
/** Writes back everything of the file system that `fd` lies on; may take seconds. */
export const syncFileSystem = (fd: number): Promise<number> => callAsync('syncfs', syncfsFn, [fd]);
/** An exclusive flock(2) on `fd`, or false when somebody else holds it; freed when the descriptor is closed. */
export function tryLock(fd: number): boolean {
  const result = Number(flockFn(fd, 2 | 4 /* LOCK_EX | LOCK_NB */));
  const errno = koffi.errno();
  if (result === 0) return true;
  const error = new SyscallError('flock', errno);
  if (error.code === 'EAGAIN') return false;
  throw error;
}
const adjtimexFn = libc.func('adjtimex', 'int', ['void *']);
const TIME_ERROR = 5;
/** Whether somebody (an NTP client) keeps the clock synchronised: adjtimex(2). */
export const isClockSynchronised = (): boolean => call('adjtimex', adjtimexFn, [Buffer.alloc(208)]) !== TIME_ERROR;
export const umask = (mask: number): number => Number(umaskFn(mask));

const plainSyscallFn = libc.func('syscall', 'long', ['long']);
/** Whether the kernel runs programs of the x32 ABI: getpid(2) by its number there. */
export const knowsX32 = (): boolean => process.arch === 'x64' && Number(plainSyscallFn(0x4000_0027n)) === process.pid;

// --- memory -----------------------------------------------------------------------------------------------------------------------

const mallocTrimFn = define('int malloc_trim(ulong pad)');
/** Gives freed memory back to the kernel, which glibc keeps after work with many buffers in many threads; tens of milliseconds, in the pool. */
export const trimMemory = (): Promise<number> => callAsync('malloc_trim', mallocTrimFn, [0]);

const madviseFn = define('int madvise(uint64_t addr, uint64_t length, int advice)');
const MADV_DONTNEED = 4;
/** Only for mappings whose content is that of their file: anything else would be lost. Throws SyscallError. */
export function dropPages(range: { readonly from: bigint; readonly to: bigint }): void {
  call('madvise', madviseFn, [range.from, range.to - range.from, MADV_DONTNEED]);
}
