/** Keeps container logs small: renames the full one, lets the runtime open a new one, compresses and removes the old. */
import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGzip } from 'node:zlib';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';

/** Source: kubelet pkg/kubelet/logs/container_log_manager.go: names, order and numbers. */
const checkEveryMs = 10_000;

/** Read anew at each look: they may be getters. */
export interface RotationOptions {
  readonly maxBytes: number;
  /** Of one container, the one being written included; at least 2. */
  readonly maxFiles: number;
  /** The logs of the containers that run now. */
  readonly running: (ctx: Ctx) => Promise<readonly { readonly containerId: string; readonly path: string }[]>;
  readonly reopen: (ctx: Ctx, containerId: string) => Promise<void>;
}

/** Looks every ten seconds until the context ends. */
export async function keepLogsSmall(ctx: Ctx, options: RotationOptions): Promise<void> {
  while (!ctx.signal.aborted) {
    await sleep(checkEveryMs, undefined, { signal: ctx.signal, ref: false }).catch(() => undefined); // only the abort
    if (ctx.signal.aborted) return;
    try {
      await rotateAll(ctx, options);
    } catch (err) {
      if (!ctx.signal.aborted) ctx.log.warn({ err }, 'logs not rotated');
    }
  }
}

export async function rotateAll(ctx: Ctx, options: RotationOptions): Promise<void> {
  for (const { containerId, path } of await options.running(ctx)) {
    ctx.signal.throwIfAborted();
    try {
      const { size } = await stat(path);
      if (size >= options.maxBytes) await rotate(path, options.maxFiles, () => options.reopen(ctx, containerId), new Date());
    } catch (err) {
      if (isErrno(err, 'ENOENT')) continue; // the container has just gone
      ctx.log.warn({ err, container: containerId }, 'log not rotated');
    }
  }
}

/** One rotation. When the runtime cannot reopen, everything is as before but for older files. */
export async function rotate(path: string, maxFiles: number, reopen: () => Promise<void>, now: Date): Promise<void> {
  const dir = dirname(path);
  const plan = planRotation(basename(path), await readdir(dir), maxFiles);
  for (const name of plan.remove) await rm(join(dir, name), { force: true });
  for (const name of plan.compress) await compress(join(dir, name));
  const rotated = `${path}.${rotationTime(now)}`;
  await rename(path, rotated);
  try {
    await reopen();
  } catch (error) {
    await rename(rotated, path);
    throw error;
  }
}

/**
 * What to do with the files that earlier rotations left: `.tmp` and the plain twin of a `.gz` are unfinished work; with the one
 * about to be written and the one about to be renamed, `maxFiles` stay.
 */
export function planRotation(name: string, files: readonly string[], maxFiles: number): { remove: string[]; compress: string[] } {
  const old = files.filter((file) => file.startsWith(`${name}.`));
  const unfinished = old.filter((file) => file.endsWith('.tmp') || old.includes(`${file}.gz`));
  const kept = old.filter((file) => !unfinished.includes(file)).toSorted();
  const excess = Math.max(0, kept.length - (maxFiles - 2));
  return { remove: [...unfinished, ...kept.slice(0, excess)], compress: kept.slice(excess).filter((file) => !file.endsWith('.gz')) };
}

async function compress(path: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await pipeline(createReadStream(path), createGzip(), createWriteStream(temporary, { mode: 0o640 }));
    await rename(temporary, `${path}.gz`);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await rm(path);
}

/** `20260102-030405` in UTC. */
const rotationTime = (now: Date): string => now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
