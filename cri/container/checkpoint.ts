/**
 * CheckpointContainer: memory and files of a running container in one archive, by the OCI runtime and CRIU; the container runs on. The archive is laid out
 * as CRI-O's and containerd's, so that checkpointctl(1) can read it.
 *
 *   checkpoint/  CRIU's images      config.dump  what it is      spec.dump  its config.json      rootfs-diff.tar  what it wrote
 */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { withTimeout } from '#host/ctx.ts';
import { findProgram, runChecked } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { readConfigFile } from '../oci/config-file.ts';
import { dumpContainer, type OciRuntime } from '../oci/runtime.ts';
import { snapshotPaths } from '../snapshot/overlay-options.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { ContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';

export interface CheckpointDeps {
  readonly containers: Pick<ContainerStore, 'get'>;
  readonly lock: KeyedLock<ContainerId>;
  /** By the real name of a handler, as in the record. */
  readonly runtimeOf: (handler: string) => OciRuntime;
  /** CRIU's path; undefined where it is not installed. */
  readonly findCriu: () => Promise<string | undefined>;
}

export interface CheckpointRequest {
  readonly id: string;
  /** Where the archive is to be: absolute; it is written beside and renamed. */
  readonly location: string;
  /** 0 means the default. */
  readonly timeoutSeconds: number;
}

const defaultTimeoutMs = 4 * 60_000;

/** Fault 'unimplemented' where runtime or machine cannot, 'precondition' when it does not run. Leaves nothing at the location on failure. May run twice. */
export async function checkpointContainer(ctx: Ctx, deps: CheckpointDeps, request: CheckpointRequest): Promise<void> {
  const { location, timeoutSeconds } = request;
  const { id } = deps.containers.get(request.id);
  if (!location.startsWith('/')) throw new Fault('invalid', `location: ${JSON.stringify(location)} is not an absolute path`);
  using _ = await deps.lock.hold(id);
  const record = deps.containers.get(id);
  const runtime = deps.runtimeOf(record.runtimeHandler);
  if (!runtime.features.checkpoint) throw new Fault('unimplemented', `${runtime.version} does not say that it can checkpoint`);
  if ((await deps.findCriu()) === undefined) throw new Fault('unimplemented', 'checkpoints need criu, which is not installed');
  if (record.state.name !== 'running') throw new Fault('precondition', `container ${id} is ${record.state.name}, not running`);
  const dir = join(record.bundleDir, 'checkpoint');
  const unfinished = `${location}.part`;
  try {
    // What one that was killed left.
    await rm(dir, { recursive: true, force: true });
    const limited = withTimeout(ctx, timeoutSeconds > 0 ? timeoutSeconds * 1000 : defaultTimeoutMs);
    await collect(limited, { record, runtime, dir });
    await rm(unfinished, { force: true });
    // Private before there is anything in it: it will hold the container's memory. tar keeps the mode of a file that is there.
    await writeFile(unfinished, '', { mode: 0o600, flag: 'wx' });
    await tar(limited, dir, unfinished);
    await rename(unfinished, location);
  } finally {
    await Promise.all([rm(dir, { recursive: true, force: true }), rm(unfinished, { force: true })]);
  }
  ctx.log.info({ container: id, location }, 'container checkpointed');
}

async function collect(ctx: Ctx, work: { record: ContainerRecord; runtime: OciRuntime; dir: string }): Promise<void> {
  const { record, runtime, dir } = work;
  const { id, config, image, bundleDir } = record;
  await mkdir(dir, { mode: 0o700 });
  await dumpContainer(ctx, runtime, { id, imageDir: join(dir, 'checkpoint'), workDir: dir });
  const about = {
    id, name: config.metadata?.name ?? '', rootfsImage: image.id, rootfsImageRef: image.ref, rootfsImageName: image.ref, runtime: runtime.name,
    createdTime: new Date(Number(record.state.createdAtNs / 1_000_000n)).toISOString(), checkpointedTime: new Date().toISOString(),
  };
  await writeFile(join(dir, 'config.dump'), JSON.stringify(about));
  await writeFile(join(dir, 'spec.dump'), JSON.stringify((await readConfigFile(bundleDir)) ?? {}));
  await tar(ctx, snapshotPaths(bundleDir).upper, join(dir, 'rootfs-diff.tar'));
}

async function tar(ctx: Ctx, from: string, file: string): Promise<void> {
  const path = await findProgram('tar');
  if (path === undefined) throw new Fault('precondition', 'tar is not installed');
  await runChecked(ctx, { path, args: ['--create', '--xattrs', '--numeric-owner', '--file', file, '--directory', from, '.'] });
}
