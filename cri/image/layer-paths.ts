/**
 * The directories of a layer that is being made: finds the real parent of an entry, makes the ones that no entry describes, and keeps some of them open.
 * Part of layer-apply.ts; the rules are there.
 */
import { readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Directory } from '#host/directory.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { lookUpLower, opaqueXattr, type LowerEntry } from './lower-view.ts';
import type { TarEntry } from './tar.ts';

/** Entries come directory by directory: a few are enough. More than two at once are never in use. */
const keptOpen = 32;
const maxSymlinks = 40;
const inheritedXattrs = ['system.posix_acl_access', 'system.posix_acl_default', 'security.capability'];

/** A directory in which an entry is about to be made. Valid until the next but one is asked for. */
export interface Parent {
  readonly directory: Directory;
  realPathOf(name: string): string;
  /** Runs `how`; if something of that name is there already, it is removed first: the later entry of a layer wins. */
  make<T>(name: string, how: () => T): T;
}

const below = (path: string, name: string): string => (path === '' ? name : `${path}/${name}`);

export class LayerPaths implements Disposable {
  readonly root: Directory;
  readonly #lowers: readonly string[] | undefined;
  /** By the path that was asked for; the most recently used last. */
  readonly #open = new Map<string, { readonly directory: Directory; readonly realPath: string; readonly parent: Parent }>();
  readonly #implicit = new Set<string>();
  readonly #whiteouts = new Set<string>();
  /** Where nothing of the layers below is to be seen. */
  readonly #opaque = new Set<string>();

  constructor(root: string, lowers: readonly string[] | undefined) {
    this.root = Directory.open(root);
    this.#lowers = lowers;
  }

  /** Are the layers below in view? */
  get seesLower(): boolean {
    return this.#lowers !== undefined;
  }

  /** The directory `components`, made if it is not there. Throws Fault invalid when something else is in the way. */
  parent(components: readonly string[]): Parent {
    const found = this.#find(components, true);
    if (found === undefined) throw new Fault('internal', `${components.join('/')} was not made`);
    return found;
  }

  /** The same, undefined when it is not in this layer. */
  existingParent(components: readonly string[]): Parent | undefined {
    return this.#find(components, false);
  }

  #find(components: readonly string[], create: boolean): Parent | undefined {
    const wanted = components.join('/');
    const kept = this.#open.get(wanted);
    if (kept !== undefined) {
      this.#open.delete(wanted);
      this.#open.set(wanted, kept);
      return kept.parent;
    }
    const opened = this.#openDirect(wanted) ?? this.#walk(components, create);
    if (opened === undefined) return undefined;
    for (const [path, { directory }] of this.#open) {
      if (this.#open.size < keptOpen) break;
      directory[Symbol.dispose]();
      this.#open.delete(path);
    }
    const parent = this.#asParent(opened);
    this.#open.set(wanted, { ...opened, parent });
    return parent;
  }

  /** Without symlinks on the way, which is nearly always. */
  #openDirect(path: string): { directory: Directory; realPath: string } | undefined {
    try {
      return { directory: this.root.openBelow(path), realPath: path };
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw error;
    }
  }

  /** Component by component, as the kernel would if the layer were mounted at `/`. */
  #walk(components: readonly string[], create: boolean): { directory: Directory; realPath: string } | undefined {
    const pending = components.toReversed();
    let real: string[] = [];
    let links = 0;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        real.pop();
        continue;
      }
      const target = this.#step(real, name, create);
      if (target === 'absent') return undefined;
      if (target === 'directory') real.push(name);
      else {
        links += 1;
        if (links > maxSymlinks) throw new Fault('invalid', `${components.join('/')}: too many symlinks`);
        if (target.startsWith('/')) real = [];
        pending.push(...target.split('/').toReversed());
      }
    }
    const realPath = real.join('/');
    return { directory: this.root.openBelow(realPath), realPath };
  }

  /** What `name` in the real directory `real` is, made into a directory if there is nothing: `directory`, `absent`, or where a symlink points. */
  #step(real: readonly string[], name: string, create: boolean): string {
    using directory = this.root.openBelow(real.join('/'));
    const path = [...real, name].join('/');
    const here = directory.stat(name);
    if (here?.isDirectory() === true) return 'directory';
    if (here?.isSymbolicLink() === true) return linkTarget(directory.path(name));
    const isHidden = this.#whiteouts.has(path);
    if (here !== undefined && !isHidden) {
      if (!create) return 'absent';
      throw new Fault('invalid', `${JSON.stringify(path)} is a file, and the layer has entries below it`);
    }
    const lower = isHidden ? undefined : this.lower([...real, name]);
    if (lower?.stats.isSymbolicLink() === true) return linkTarget(lower.path);
    if (!create) return 'absent';
    if (lower !== undefined && !lower.stats.isDirectory()) {
      throw new Fault('invalid', `${JSON.stringify(path)} is a file in a layer below, and the layer has entries below it`);
    }
    this.makeDirectory(this.#asParent({ directory, realPath: real.join('/') }), name);
    this.#implicit.add(path);
    if (lower !== undefined) this.adopt(lower, directory, name);
    return 'directory';
  }

  #asParent(opened: { directory: Directory; realPath: string }): Parent {
    const { directory, realPath } = opened;
    return {
      directory,
      realPathOf: (name) => below(realPath, name),
      make: (name, how) => {
        try {
          return how();
        } catch (error) {
          if (!isErrno(error, 'EEXIST')) throw error;
        }
        directory.remove(name);
        this.#whiteouts.delete(below(realPath, name));
        this.#forget(below(realPath, name), directory);
        return how();
      },
    };
  }

  /** A directory that is there already stays, with what is in it. */
  makeDirectory(parent: Parent, name: string): void {
    const path = parent.realPathOf(name);
    const wasHidden = this.#whiteouts.has(path);
    if (wasHidden || parent.directory.stat(name)?.isDirectory() !== true) parent.make(name, () => parent.directory.makeDirectory(name));
    // Removed and made again: what was below must not shine through.
    if (wasHidden) this.#makeOpaque(parent.directory, name, path);
    this.#implicit.delete(path);
    // With the layers below in view, a path that led through one of their symlinks may now end here.
    if (this.#lowers !== undefined) this.#forget(path, parent.directory);
  }

  makeOpaque(components: readonly string[]): void {
    if (components.length === 0) this.#makeOpaque(this.root, '.', '');
    else {
      const parent = this.parent(components);
      this.#makeOpaque(parent.directory, '.', parent.realPathOf('').replace(/\/$/, ''));
    }
  }
  #makeOpaque(directory: Directory, name: string, path: string): void {
    directory.setXattr(name, opaqueXattr, Buffer.from('y'));
    this.#opaque.add(path);
  }

  noteWhiteout(path: string): void {
    this.#whiteouts.add(path);
  }
  isWhiteout(path: string): boolean {
    return this.#whiteouts.has(path);
  }

  /** What the layers below have there; undefined also when they are not in view or this layer hides them. */
  lower(components: readonly string[]): LowerEntry | undefined {
    if (this.#lowers === undefined) return undefined;
    for (let count = 0; count < components.length; count++) {
      const path = components.slice(0, count).join('/');
      if (this.#opaque.has(path) || this.#whiteouts.has(path)) return undefined;
    }
    return this.#whiteouts.has(components.join('/')) ? undefined : lookUpLower(this.#lowers, components);
  }

  /** Gives a directory the attributes of the one below that it would otherwise hide. */
  adopt(lower: LowerEntry, directory: Directory, name: string): void {
    const { stats } = lower;
    directory.chown(name, Number(stats.uid), Number(stats.gid));
    directory.chmod(name, Number(stats.mode) & 0o7777);
    this.copyXattrs(lower, directory, name);
  }

  copyXattrs(lower: LowerEntry, directory: Directory, name: string): void {
    using from = Directory.open(dirname(lower.path));
    const base = basename(lower.path);
    for (const attribute of inheritedXattrs) {
      const value = from.getXattr(base, attribute);
      if (value !== undefined) directory.setXattr(name, attribute, value);
    }
  }

  implicitDirectories(): string[] {
    return [...this.#implicit];
  }

  /** Does nothing when the path is no directory any more. */
  setDirectoryTime(path: string, time: TarEntry['modified']): void {
    const opened = this.#openDirect(path);
    if (opened === undefined) return;
    using directory = opened.directory;
    directory.setTime('.', time);
  }

  /** Something at `path` was replaced: what was opened through it may be elsewhere now. `inUse` stays open. */
  #forget(path: string, inUse: Directory): void {
    for (const [wanted, { directory, realPath }] of this.#open) {
      const isAffected = wanted !== realPath || realPath === path || realPath.startsWith(`${path}/`);
      if (!isAffected || directory === inUse) continue;
      directory[Symbol.dispose]();
      this.#open.delete(wanted);
    }
  }

  [Symbol.dispose](): void {
    for (const { directory } of this.#open.values()) directory[Symbol.dispose]();
    this.#open.clear();
    this.root[Symbol.dispose]();
  }
}

/** Never the words that #step uses for itself. */
function linkTarget(path: string): string {
  const target = readlinkSync(path);
  return target === 'directory' || target === 'absent' ? `./${target}` : target;
}
