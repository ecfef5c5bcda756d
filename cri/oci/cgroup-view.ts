/**
 * A view of the machine without the version 2 cgroup hierarchy, for runtimes that refuse to see both (crun before 1.9 on hybrid hosts). The hierarchy
 * is unmounted in a mount namespace of the runtime's own; nothing else differs there, and the host's mounts stay as they are.
 *
 * To create a container the runtime must see mounts that were made a moment ago, so it gets a copy of the present ones (3 ms). Everything else can
 * use one namespace that is made once and kept by a descriptor (0.7 ms).
 */
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Ctx } from '#host/ctx.ts';
import { findProgram, spawn } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { pipe } from '#host/libc.ts';
import { type MountInfo, readMounts } from '#host/mountinfo.ts';

/** Words to be put before a runtime's command line. */
export interface RuntimeEntry {
  readonly create: readonly string[];
  readonly other: readonly string[];
}

export const directly: RuntimeEntry = { create: [], other: [] };

/** The shell line that hides the hierarchy; undefined on a machine that has only one version. Pure. */
export function hidingLine(mounts: readonly Pick<MountInfo, 'mountPoint' | 'type' | 'propagation'>[]): string | undefined {
  const points = mounts.filter(({ type }) => type === 'cgroup2');
  if (points.length === 0 || !mounts.some(({ type }) => type === 'cgroup')) return undefined;
  const steps = points.flatMap(({ mountPoint, propagation }) => {
    const quoted = `'${mountPoint.replaceAll("'", String.raw`'\''`)}'`;
    // A shared mount would be unmounted on the host too.
    return [...(propagation.length > 0 ? [`mount --make-private ${quoted}`] : []), `umount ${quoted}`];
  });
  return steps.join(' && ');
}

let made: Promise<RuntimeEntry | undefined> | undefined;

/**
 * One for the process, made when it is asked for first. Undefined where there is nothing to hide, or the programs of util-linux for it are not
 * installed. Fault 'internal' when hiding fails; it is tried again then.
 */
export function hiddenCgroup2(ctx: Ctx): Promise<RuntimeEntry | undefined> {
  made ??= hide(ctx).catch((error: unknown) => {
    made = undefined;
    throw error;
  });
  return made;
}

async function hide(ctx: Ctx): Promise<RuntimeEntry | undefined> {
  const line = hidingLine(await readMounts());
  const [unshare, nsenter] = await Promise.all(['unshare', 'nsenter'].map((name) => findProgram(name)));
  if (line === undefined || unshare === undefined || nsenter === undefined) return undefined;
  const copy = [unshare, '--mount', '--propagation', 'unchanged', '/bin/sh', '-c', `${line} && exec "$@"`, '-'];
  const namespaceFd = await keptNamespace(ctx, copy);
  return { create: copy, other: [nsenter, `--mount=/proc/${process.pid}/fd/${namespaceFd}`] };
}

/** A descriptor, open as long as this process lives, of a mount namespace that `words` made. */
async function keptNamespace(ctx: Ctx, [path = '', ...words]: readonly string[]): Promise<number> {
  const ready = pipe();
  const hold = pipe();
  const child = spawn({ path, args: [...words, '/bin/sh', '-c', 'echo ready && read -r _'], fds: { 0: hold.readFd, 1: ready.writeFd } });
  for (const fd of [hold.readFd, ready.writeFd]) closeSync(fd);
  const said = new Socket({ fd: ready.readFd, readable: true, writable: false });
  const kill = (): void => child.kill('SIGKILL');
  ctx.signal.addEventListener('abort', kill, { once: true });
  try {
    const isReady = await new Promise<boolean>((resolve) => {
      said.once('data', () => resolve(true)).once('close', () => resolve(false)).on('error', () => resolve(false));
    });
    if (!isReady) throw new Fault('internal', `hide cgroup version 2 from a runtime: status ${await child.exited}`);
    return openSync(`/proc/${child.process.pid}/ns/mnt`, 'r');
  } finally {
    ctx.signal.removeEventListener('abort', kill);
    said.destroy();
    closeSync(hold.writeFd);
    await child.exited;
  }
}
