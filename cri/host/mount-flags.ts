/** Mount option words, as fstab(5), OCI and CRI write them → mount(2) flags, propagation and a data string. Pure. */

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_SYNCHRONOUS = 16;
const MS_REMOUNT = 32;
const MS_DIRSYNC = 128;
const MS_NOSYMFOLLOW = 256;
const MS_NOATIME = 1024;
const MS_NODIRATIME = 2048;
export const MS_BIND = 4096;
const MS_REC = 16_384;
const MS_UNBINDABLE = 1 << 17;
const MS_PRIVATE = 1 << 18;
const MS_SLAVE = 1 << 19;
const MS_SHARED = 1 << 20;
const MS_RELATIME = 1 << 21;
const MS_STRICTATIME = 1 << 24;

const setWords: Readonly<Record<string, number>> = {
  ro: MS_RDONLY,
  nosuid: MS_NOSUID,
  nodev: MS_NODEV,
  noexec: MS_NOEXEC,
  sync: MS_SYNCHRONOUS,
  remount: MS_REMOUNT,
  dirsync: MS_DIRSYNC,
  nosymfollow: MS_NOSYMFOLLOW,
  noatime: MS_NOATIME,
  nodiratime: MS_NODIRATIME,
  relatime: MS_RELATIME,
  strictatime: MS_STRICTATIME,
  bind: MS_BIND,
  rbind: MS_BIND | MS_REC,
};
const clearWords: Readonly<Record<string, number>> = {
  rw: MS_RDONLY,
  suid: MS_NOSUID,
  dev: MS_NODEV,
  exec: MS_NOEXEC,
  async: MS_SYNCHRONOUS,
  atime: MS_NOATIME,
  diratime: MS_NODIRATIME,
  defaults: 0,
};
const propagationWords: Readonly<Record<string, number>> = {
  private: MS_PRIVATE,
  rprivate: MS_PRIVATE | MS_REC,
  slave: MS_SLAVE,
  rslave: MS_SLAVE | MS_REC,
  shared: MS_SHARED,
  rshared: MS_SHARED | MS_REC,
  unbindable: MS_UNBINDABLE,
  runbindable: MS_UNBINDABLE | MS_REC,
};

export interface MountFlags {
  readonly flags: number;
  /** To be applied by a second mount(2); 0 when none was asked for. */
  readonly propagation: number;
  /** Words that are the file system's own, joined by commas; empty when there are none. */
  readonly data: string;
}

/** Later words win over earlier ones that say the opposite. */
export function parseMountOptions(words: readonly string[]): MountFlags {
  let flags = 0;
  let propagation = 0;
  const data: string[] = [];
  for (const word of words) {
    const set = setWords[word];
    const clear = clearWords[word];
    const spread = propagationWords[word];
    if (set !== undefined) flags |= set;
    else if (clear !== undefined) flags &= ~clear;
    else if (spread !== undefined) propagation = spread;
    else data.push(word);
  }
  return { flags, propagation, data: data.join(',') };
}

/** The flags that a bind ignores at first and takes in a second, remounting call. */
export const remountFlags = (flags: number): number => (flags & ~(MS_BIND | MS_REC)) === 0 ? 0 : (flags & ~MS_REC) | MS_REMOUNT | MS_BIND;
