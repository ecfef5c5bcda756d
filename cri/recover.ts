/**
 * Start-up after whatever happened: compares the records with what is there, and makes them agree. Running containers are not touched.
 * Everything here may run twice; a kill in the middle is just another interruption.
 */
import { readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { endMarkedPrograms } from '#host/marked-programs.ts';
import { isAlive } from '#host/process.ts';
import type { ContainerRecord } from './state/container-record.ts';
import type { ContainerStore } from './state/container-store.ts';
import type { ContainerId, SandboxId } from './state/ids.ts';
import type { CriPaths } from './state/paths.ts';
import type { SandboxRecord } from './state/sandbox-record.ts';
import type { SandboxStore } from './state/sandbox-store.ts';

export interface RecoverDeps {
  readonly paths: CriPaths;
  readonly containers: ContainerStore;
  readonly sandboxes: SandboxStore;
  /** Waits for the exit of a container that is created or running, at once when it has ended meanwhile. */
  readonly watchContainer: (record: ContainerRecord) => Promise<void>;
  readonly watchInit: (record: SandboxRecord) => void;
  readonly teardownContainer: (ctx: Ctx, id: ContainerId) => Promise<void>;
  readonly removeOrphanContainer: (ctx: Ctx, dir: string) => Promise<void>;
  readonly removeOrphanSandbox: (ctx: Ctx, dir: string) => Promise<void>;
  /** True when the runtime has let its program go. */
  readonly isStarted: (ctx: Ctx, record: ContainerRecord) => Promise<boolean>;
  /** Keeps an answer for the request that is repeated: an earlier daemon may have died before it was sent. */
  readonly keepAnswer: (record: ContainerRecord | SandboxRecord) => void;
  readonly teardownSandbox: (ctx: Ctx, id: SandboxId) => Promise<void>;
  readonly stopSandbox: (ctx: Ctx, id: SandboxId) => Promise<void>;
  readonly killLeftoverExecs: (ctx: Ctx) => Promise<void>;
}

/** Records must be loaded. One broken record is logged and does not keep the others. */
export async function recover(ctx: Ctx, deps: RecoverDeps): Promise<void> {
  await Promise.all(deps.containers.list().map((record) => attempt(ctx, { container: record.id }, () => recoverContainer(ctx, deps, record))));
  await attempt(ctx, {}, () => deps.killLeftoverExecs(ctx));
  for (const dir of await deps.containers.orphans()) await attempt(ctx, { dir }, () => deps.removeOrphanContainer(ctx, dir));
  await Promise.all(deps.sandboxes.list().map((record) => attempt(ctx, { sandbox: record.id }, () => recoverSandbox(ctx, deps, record))));
  for (const dir of await deps.sandboxes.orphans()) await attempt(ctx, { dir }, () => deps.removeOrphanSandbox(ctx, dir));
}

async function attempt(ctx: Ctx, fields: Record<string, unknown>, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    ctx.log.error({ ...fields, err: error }, 'cannot recover');
  }
}

async function recoverContainer(ctx: Ctx, deps: RecoverDeps, record: ContainerRecord): Promise<void> {
  switch (record.state.name) {
    case 'making':
      await deps.teardownContainer(ctx, record.id);
      await deps.containers.delete(record.id);
      ctx.log.info({ container: record.id }, 'removed a container that was being made');
      return;
    case 'created':
      await deps.watchContainer(record);
      if (deps.containers.find(record.id)?.state.name !== 'created') return;
      if (await deps.isStarted(ctx, record)) await deps.containers.observe(ctx, record.id, { type: 'started', atNs: nowNs() });
      else deps.keepAnswer(record);
      return;
    case 'running':
      return deps.watchContainer(record);
    case 'exited':
      return;
    default:
      return record.state satisfies never;
  }
}

async function recoverSandbox(ctx: Ctx, deps: RecoverDeps, record: SandboxRecord): Promise<void> {
  if (record.state.name === 'making') {
    await endMarkedPrograms(ctx, record.id);
    await deps.teardownSandbox(ctx, record.id);
    await deps.sandboxes.delete(record.id);
    ctx.log.info({ sandbox: record.id }, 'removed a sandbox that was being made');
    return;
  }
  if (record.state.name === 'ready' && (await isStanding(record))) {
    if (!deps.containers.list().some(({ sandboxId }) => sandboxId === record.id)) deps.keepAnswer(record);
    return deps.watchInit(record);
  }
  if (record.owns.length === 0) return;
  await deps.sandboxes.observe(ctx, record.id, { type: 'stopped' });
  // Nobody has to wait for it, or for a plugin that hangs: whoever asks something of this sandbox waits for its lock.
  void attempt(ctx, { sandbox: record.id }, async () => {
    await endMarkedPrograms(ctx, record.id);
    await deps.stopSandbox(ctx, record.id);
  });
}

const nsfsMagic = 0x6e736673;

/** False when its namespaces went with a reboot, or its init died. */
async function isStanding(record: SandboxRecord): Promise<boolean> {
  if (record.init !== undefined && !isAlive(record.init)) return false;
  if (!record.owns.some(({ kind }) => kind === 'namespaces')) return true;
  try {
    for (const name of await readdir(record.namespacesDir)) if ((await statfs(join(record.namespacesDir, name))).type !== nsfsMagic) return false;
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
