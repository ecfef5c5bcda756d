/** Room on file systems, and what a tree takes of it. */
import { lstat, opendir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from './ctx.ts';
import { isErrno } from './errno.ts';

export interface FileSystemRoom {
  readonly totalBytes: number;
  /** For unprivileged users, as df(1) says it. */
  readonly availableBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
}

export async function fileSystemRoom(path: string): Promise<FileSystemRoom> {
  const room = await statfs(path);
  return { totalBytes: room.blocks * room.bsize, availableBytes: room.bavail * room.bsize, totalInodes: room.files, freeInodes: room.ffree };
}

export interface TreeUsage {
  readonly usedBytes: number;
  readonly inodes: number;
}

/** Allocated bytes and inodes of a tree, hard links counted once; files that vanish meanwhile are left out, an absent tree is zero. */
export async function treeUsage(ctx: Ctx, path: string): Promise<TreeUsage> {
  const seen = new Set<string>();
  let usedBytes = 0;
  let inodes = 0;
  const pending = [path];
  for (let current = pending.pop(); current !== undefined; current = pending.pop()) {
    ctx.signal.throwIfAborted();
    try {
      const entry = await lstat(current);
      const isDirectory = entry.isDirectory();
      if (entry.nlink > 1 && !isDirectory) {
        const key = `${entry.dev}:${entry.ino}`;
        if (seen.has(key)) continue;
        seen.add(key);
      }
      usedBytes += entry.blocks * 512;
      inodes += 1;
      if (isDirectory) for await (const child of await opendir(current)) pending.push(join(current, child.name));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
  return { usedBytes, inodes };
}
