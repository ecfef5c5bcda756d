/**
 * Puts tar entries into a directory as an overlay layer. Synchronous, for worker threads.
 *
 * There is no way out of the directory: every entry is made by its last component in a parent that is held by a descriptor, and that parent was opened
 * with openat2(2) beneath the layer's root without following any symlink. Symlinks in a parent's path are resolved here, as seen from inside the root,
 * which is what containerd does too (continuity/fs RootPath). `..` in a name is refused.
 *
 * The layer is made without looking at those below, so that all layers of an image can be unpacked at once. What then cannot be decided is reported:
 * directories that no entry describes (their attributes come from below, see layer-settle.ts) and hard links to files that are not in this layer.
 * With `lowers` given, nothing is left open: it is the slow, second way.
 *
 * Whiteouts: OCI image-spec 1.1 layer.md → overlayfs: `.wh.x` is a character device 0/0 called x; `.wh..wh..opq` is trusted.overlay.opaque=y on the
 * directory.
 */
import { closeSync, copyFileSync, ftruncateSync, readlinkSync, writeSync } from 'node:fs';
import { setOwnerAndMode, type Directory } from '#host/directory.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { LayerPaths } from './layer-paths.ts';
import { opaqueXattr } from './lower-view.ts';
import type { TarEntry, TarSink } from './tar.ts';

export interface ApplyLimits {
  readonly maxEntries: number;
  readonly maxBytes: number;
}
/** Far above any image that works, far below what would fill a node with inodes. */
export const defaultLimits: ApplyLimits = { maxEntries: 2_000_000, maxBytes: 512 * 1024 ** 3 };

export interface ApplyOptions {
  readonly root: string;
  /** Directories of the layers below, topmost first; undefined leaves what depends on them open. */
  readonly lowers?: readonly string[] | undefined;
  /** The tar is an archive, no layer: names that begin with `.wh.` mean nothing, owners are not kept, devices are refused. */
  readonly plain?: boolean;
  readonly limits?: ApplyLimits;
}

export interface Applied {
  readonly usedBytes: number;
  readonly inodes: number;
  /** Directories that no entry described, parents first; without the root. */
  readonly implicitDirectories: readonly string[];
  /** Hard links whose target is not in this layer. */
  readonly missingLinks: readonly string[];
  /** Extended attributes that this file system could not take. */
  readonly lostXattrs: number;
}

interface OpenFile {
  readonly fd: number;
  readonly parent: Directory;
  readonly name: string;
  readonly entry: TarEntry;
  position: number;
  endsInHole: boolean;
}

const whiteoutPrefix = '.wh.';
const metaPrefix = '.wh..wh.';
const opaqueMarker = '.wh..wh..opq';
const blockSize = 4096;
/** Zeros in runs of at least this are left out as holes: an image made of zeros must not fill the disk. */
const minHoleBytes = 32 * 1024;
const zeros = Buffer.alloc(1024 * 1024);
const keptXattr = /^(?:user\.|security\.(?:capability|ima)$|system\.posix_acl_(?:access|default)$)/;

const refuse = (entry: TarEntry, why: string): Fault => new Fault('invalid', `layer entry ${JSON.stringify(entry.name.slice(0, 300))}: ${why}`);

export class LayerApplier implements TarSink {
  readonly #paths: LayerPaths;
  readonly #limits: ApplyLimits;
  readonly #isPlain: boolean;
  readonly #directoryTimes = new Map<string, TarEntry['modified']>();
  readonly #missingLinks: string[] = [];
  #file: OpenFile | undefined;
  #entries = 0;
  #bytes = 0;
  #usedBytes = blockSize;
  #inodes = 1;
  #lostXattrs = 0;

  constructor(options: ApplyOptions) {
    this.#paths = new LayerPaths(options.root, options.lowers);
    this.#limits = options.limits ?? defaultLimits;
    this.#isPlain = options.plain === true;
  }

  entry(entry: TarEntry): void {
    this.#entries += 1;
    if (this.#entries > this.#limits.maxEntries) throw new Fault('invalid', `layer has more than ${this.#limits.maxEntries} entries`);
    this.#bytes += entry.sizeBytes;
    if (this.#bytes > this.#limits.maxBytes) throw new Fault('invalid', `layer unpacks to more than ${this.#limits.maxBytes} bytes`);
    const components = entry.name.split('/').filter((component) => component !== '' && component !== '.');
    if (components.includes('..')) throw refuse(entry, 'its name contains ".."');
    try {
      this.#place(entry, components);
    } catch (cause) {
      throw cause instanceof Fault && cause.kind === 'invalid' ? cause : refuseOf(entry, cause);
    }
  }

  #place(entry: TarEntry, components: readonly string[]): void {
    const name = components.at(-1);
    if (name === undefined) return this.#describeRoot(entry);
    if (!this.#isPlain) {
      if (components[0]?.startsWith(metaPrefix) === true && components[0] !== opaqueMarker) return; // aufs's own book-keeping
      if (name.startsWith(whiteoutPrefix)) return this.#whiteOut(entry, components.slice(0, -1), name);
    }
    const parent = this.#paths.parent(components.slice(0, -1));
    switch (entry.type) {
      case 'file':
        this.#file = { fd: parent.make(name, () => parent.directory.createFile(name)), parent: parent.directory, name, entry, position: 0, endsInHole: false };
        return;
      case 'directory':
        this.#paths.makeDirectory(parent, name);
        this.#directoryTimes.set(parent.realPathOf(name), entry.modified);
        parent.directory.chown(name, ...this.#owner(entry));
        parent.directory.chmod(name, entry.mode);
        this.#setXattrs(parent.directory, name, entry);
        this.#count(blockSize);
        return;
      case 'symlink':
        if (entry.linkName === '') throw refuse(entry, 'it is a symlink to nothing');
        parent.make(name, () => parent.directory.makeSymlink(name, entry.linkName));
        this.#count(0);
        this.#describe(parent.directory, name, entry);
        return;
      case 'hardlink':
        this.#link(entry, components);
        return;
      case 'fifo':
      case 'character':
      case 'block': {
        const { type } = entry;
        if (this.#isPlain) throw refuse(entry, `it is a ${type} node, which has no place in an archive of images`);
        parent.make(name, () => parent.directory.makeNode(name, type, entry.device));
        this.#count(0);
        this.#describe(parent.directory, name, entry);
        return;
      }
      default:
        throw refuse(entry, `unknown type ${String(entry.type satisfies never)}`);
    }
  }

  data(chunk: Uint8Array): void {
    const file = this.#file;
    if (file === undefined) return; // content of a skipped entry
    for (let at = 0; at < chunk.length; at += zeros.length) this.#write(file, chunk.subarray(at, at + zeros.length));
  }

  #write(file: OpenFile, piece: Uint8Array): void {
    file.endsInHole = isZero(piece);
    if (file.endsInHole) {
      file.position += piece.length;
      return;
    }
    for (let at = 0; at < piece.length; ) {
      try {
        const written = writeSync(file.fd, piece, at, piece.length - at, file.position);
        at += written;
        file.position += written;
      } catch (cause) {
        throw refuseOf(file.entry, cause);
      }
    }
    this.#usedBytes += piece.length;
  }

  endEntry(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    try {
      if (file.endsInHole) ftruncateSync(file.fd, file.position);
      const [uid, gid] = this.#owner(file.entry);
      setOwnerAndMode(file.fd, { uid, gid, mode: file.entry.mode });
    } finally {
      closeSync(file.fd);
    }
    this.#count((blockSize - (file.entry.sizeBytes % blockSize)) % blockSize);
    this.#setXattrs(file.parent, file.name, file.entry);
    file.parent.setTime(file.name, file.entry.modified);
  }

  /** Sets what had to wait (the times of directories) and tells what was made. */
  finish(): Applied {
    for (const [path, time] of this.#directoryTimes) this.#paths.setDirectoryTime(path, time);
    return {
      usedBytes: this.#usedBytes,
      inodes: this.#inodes,
      implicitDirectories: this.#paths.implicitDirectories(),
      missingLinks: this.#missingLinks,
      lostXattrs: this.#lostXattrs,
    };
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
    this.#paths[Symbol.dispose]();
  }

  #count(bytes: number): void {
    this.#inodes += 1;
    this.#usedBytes += bytes;
  }

  #owner(entry: TarEntry): [uid: number, gid: number] {
    return this.#isPlain ? [process.getuid?.() ?? 0, process.getgid?.() ?? 0] : [entry.uid, entry.gid];
  }

  #describeRoot(entry: TarEntry): void {
    if (entry.type !== 'directory' || this.#isPlain) return;
    this.#directoryTimes.set('', entry.modified);
    const { root } = this.#paths;
    root.chown('.', entry.uid, entry.gid);
    root.chmod('.', entry.mode);
    this.#setXattrs(root, '.', entry);
  }

  /** Everything but files and directories, which have their own order. chown first: it takes setuid bits and capabilities away. */
  #describe(directory: Directory, name: string, entry: TarEntry): void {
    directory.chown(name, ...this.#owner(entry));
    if (entry.type !== 'symlink') directory.chmod(name, entry.mode);
    this.#setXattrs(directory, name, entry);
    directory.setTime(name, entry.modified);
  }

  /** Not trusted.*, which would speak to overlayfs, and not the builder's security labels. */
  #setXattrs(directory: Directory, name: string, entry: TarEntry): void {
    if (this.#isPlain) return;
    for (const [attribute, value] of entry.xattrs) {
      if (!keptXattr.test(attribute)) continue;
      try {
        directory.setXattr(name, attribute, value);
      } catch (cause) {
        // Symlinks and special files take no user.*; some file systems take none at all.
        if (!isErrno(cause, 'ENOTSUP', 'EOPNOTSUPP', 'EPERM')) throw cause;
        this.#lostXattrs += 1;
      }
    }
  }

  /** By the specification a whiteout speaks of the layers below only: what this layer has at the name stays, in whatever order they come. */
  #whiteOut(entry: TarEntry, parentComponents: readonly string[], name: string): void {
    if (name === opaqueMarker) {
      this.#paths.makeOpaque(parentComponents);
      return;
    }
    if (name.startsWith(metaPrefix)) return;
    const hidden = name.slice(whiteoutPrefix.length);
    if (hidden === '' || hidden === '.' || hidden === '..') throw refuse(entry, 'it is a whiteout of no name');
    const parent = this.#paths.parent(parentComponents);
    const present = parent.directory.stat(hidden);
    if (present === undefined) {
      parent.directory.makeNode(hidden, 'character', { major: 0, minor: 0 });
      this.#paths.noteWhiteout(parent.realPathOf(hidden));
      this.#count(0);
    } else if (present.isDirectory()) parent.directory.setXattr(hidden, opaqueXattr, Buffer.from('y'));
  }

  /** Owner, mode and times were set with the first name. */
  #link(entry: TarEntry, components: readonly string[]): void {
    const target = entry.linkName.split('/').filter((component) => component !== '' && component !== '.');
    const name = components.at(-1);
    const targetName = target.at(-1);
    if (target.includes('..')) throw refuse(entry, `it is a hard link to ${JSON.stringify(entry.linkName)}, which contains ".."`);
    if (name === undefined || targetName === undefined) throw refuse(entry, 'it is a hard link to a directory');
    const parent = this.#paths.parent(components.slice(0, -1));
    const from = this.#paths.existingParent(target.slice(0, -1));
    if (from === undefined || !this.#isLinkable(from.directory, targetName, from.realPathOf(targetName))) {
      if (!this.#paths.seesLower || !this.#copyUp(target)) {
        this.#missingLinks.push(`${components.join('/')} → ${entry.linkName}`);
        return;
      }
    }
    const source = this.#paths.existingParent(target.slice(0, -1));
    if (source === undefined) throw refuse(entry, `it is a hard link to ${JSON.stringify(entry.linkName)}, which is not there`);
    if (source.realPathOf(targetName) === parent.realPathOf(name)) return;
    if (source.directory.stat(targetName)?.isDirectory() === true) throw refuse(entry, `it is a hard link to the directory ${JSON.stringify(entry.linkName)}`);
    parent.make(name, () => parent.directory.makeLink(name, source.directory, targetName));
  }

  #isLinkable(directory: Directory, name: string, realPath: string): boolean {
    return !this.#paths.isWhiteout(realPath) && directory.stat(name) !== undefined;
  }

  /** Brings a file of the layers below into this one, so that it can be linked to: what overlayfs does when a container makes such a link. */
  #copyUp(components: readonly string[]): boolean {
    const name = components.at(-1) ?? '';
    // Its real place first: the way to it may lead through symlinks of the layers below.
    const parent = this.#paths.parent(components.slice(0, -1));
    const lower = this.#paths.lower(parent.realPathOf(name).split('/'));
    if (lower === undefined || lower.stats.isDirectory()) return false;
    const { stats, path } = lower;
    if (stats.isSymbolicLink()) parent.directory.makeSymlink(name, readlinkSync(path));
    else if (stats.isFile()) copyFileSync(path, parent.directory.path(name));
    else return false;
    parent.directory.chown(name, Number(stats.uid), Number(stats.gid));
    if (!stats.isSymbolicLink()) parent.directory.chmod(name, Number(stats.mode) & 0o7777);
    this.#paths.copyXattrs(lower, parent.directory, name);
    parent.directory.setTime(name, { seconds: stats.mtimeNs / 1_000_000_000n, nanoseconds: Number(stats.mtimeNs % 1_000_000_000n) });
    this.#count(Number(stats.size));
    return true;
  }
}

/** Of a piece no longer than `zeros`. */
const isZero = (chunk: Uint8Array): boolean =>
  chunk.length >= minHoleBytes && chunk[0] === 0 && Buffer.compare(chunk, zeros.subarray(0, chunk.length)) === 0;

function refuseOf(entry: TarEntry, cause: unknown): Fault {
  if (isErrno(cause, 'ENOSPC', 'EDQUOT')) {
    return new Fault('exhausted', `layer entry ${JSON.stringify(entry.name.slice(0, 300))}: no space left on the disk`, cause);
  }
  return new Fault('internal', `layer entry ${JSON.stringify(entry.name.slice(0, 300))}`, cause);
}
