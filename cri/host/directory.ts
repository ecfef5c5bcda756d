/**
 * A directory held by its descriptor, and what can be done with the entries directly in it: the ground that unpacking layers stands on.
 *
 * All of it is synchronous (for worker threads) and none of it follows a symlink: a name is one component, and it is the entry itself that is
 * made, changed or removed. Not part of a name's check: `name` must not contain a slash.
 */
import { closeSync, constants, fchmodSync, fchownSync, lstatSync, openSync, readdirSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { isErrno } from './errno.ts';
import { chmodAt, chownAt, getXattr, linkAt, mkdirAt, mknodAt, openat2, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, rmdirAt } from './libc.ts';
import { setXattr, symlinkAt, syncFileSystem, unlinkAt, utimesAt } from './libc.ts';

export interface FileTime {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_WRONLY } = constants;
const typeBits = { fifo: 0o010000, character: 0o020000, block: 0o060000 } as const;

export class Directory {
  readonly fd: number;
  #isClosed = false;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Throws an error of Node's when it is absent or no directory. A symlink is followed: for paths of our own. */
  static open(path: string): Directory {
    return new Directory(openSync(path, O_DIRECTORY));
  }

  /** The directory `path` (maybe several components, none of them a symlink) below this one. SyscallError ENOENT, ENOTDIR, ELOOP. */
  openBelow(path: string): Directory {
    return new Directory(openat2(this.fd, path === '' ? '.' : path, { flags: O_DIRECTORY, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS }));
  }

  /** The descriptor of a new empty file; SyscallError EEXIST when the name is taken. The caller closes it. */
  createFile(name: string): number {
    return openat2(this.fd, name, { flags: O_CREAT | O_EXCL | O_WRONLY, mode: 0o600, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
  }

  makeDirectory(name: string): void {
    mkdirAt(this.fd, name, 0o755);
  }

  makeNode(name: string, kind: keyof typeof typeBits, device: { major: number; minor: number }): void {
    // makedev(3) of glibc for numbers below 2^12 and 2^20, which is all that Linux has.
    const number = (device.major << 8) | (device.minor & 0xff) | ((device.minor & 0xfff00) << 12);
    mknodAt(this.fd, name, typeBits[kind] | 0o600, number >>> 0);
  }

  makeSymlink(name: string, target: string): void {
    symlinkAt(target, this.fd, name);
  }

  /** `name` becomes another name of `from` in `fromDirectory`; a symlink is linked, not followed. */
  makeLink(name: string, fromDirectory: Directory, from: string): void {
    linkAt(fromDirectory.fd, from, this.fd, name);
  }

  chown(name: string, uid: number, gid: number): void {
    chownAt(this.fd, name, uid, gid);
  }

  /** Not for symlinks, which have no mode of their own and would be followed. */
  chmod(name: string, mode: number): void {
    chmodAt(this.fd, name, mode);
  }

  setTime(name: string, time: FileTime): void {
    utimesAt(this.fd, name, time);
  }

  /** Undefined where there is none. */
  getXattr(name: string, attribute: string): Uint8Array | undefined {
    return getXattr(this.path(name), attribute);
  }

  setXattr(name: string, attribute: string, value: Uint8Array): void {
    setXattr(this.path(name), attribute, value);
  }

  /** The entry itself, undefined when there is none. */
  stat(name: string): Stats | undefined {
    return lstatSync(this.path(name), { throwIfNoEntry: false });
  }

  /** Removes the entry and everything in it; absent is fine. Only where nobody else is at work and nothing is mounted. */
  remove(name: string): void {
    try {
      unlinkAt(this.fd, name);
      return;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      if (!isErrno(error, 'EISDIR')) throw error;
    }
    {
      using inside = this.openBelow(name);
      for (const child of inside.names()) inside.remove(child);
    }
    rmdirAt(this.fd, name);
  }

  names(): string[] {
    return readdirSync(`/proc/self/fd/${this.fd}`);
  }

  /** A path of the entry that holds while this directory is open, wherever the directory is moved. */
  path(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.fd);
  }
}

/** Owner and mode of an open file, in the order that keeps setuid bits. */
export function setOwnerAndMode(fd: number, owner: { uid: number; gid: number; mode: number }): void {
  fchownSync(fd, owner.uid, owner.gid);
  fchmodSync(fd, owner.mode);
}

/** Waits until everything written so far to the file system of `path` is on the disk; in the pool, may take seconds. */
export async function syncFileSystemOf(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await syncFileSystem(handle.fd);
}
