/**
 * The init of a pod whose containers share one pid namespace: a tiny program that reaps orphans and otherwise sleeps. It is run by the
 * OCI runtime, confined like any container (no capabilities, an empty read-only root), but without a monitor: nobody wants its exit code.
 * One file on the host is bound into every pod, so that its pages are shared.
 */
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { type IdMappings, type Owner, rootOf } from '#host/id-mapping.ts';
import { namespacePath, type PinKind } from '#host/namespaces.ts';
import { identify, type ProcessId, signalProcess, whenGone } from '#host/process.ts';
import type { CgroupPlace } from '../oci/cgroup-path.ts';
import { ociMappings, userMappings } from '../spec/user-namespace.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { sandboxWish } from './request.ts';

export interface InitDeps {
  /** Absolute path of a static program that takes `-P` for "only reap". */
  readonly program: string;
  /** `parent` is the sandbox's cgroup_parent. */
  readonly cgroupPlace: (parent: string, id: string) => CgroupPlace;
  readonly oci: {
    /** Creates and starts a container whose process outlives the runtime; its pid is in `pidFile` then. */
    runDetached(ctx: Ctx, handler: string, container: { id: string; bundleDir: string; pidFile: string }): Promise<void>;
  };
  readonly resolveHandler: (name: string) => string;
}

export interface StopInitDeps {
  readonly cgroups: Pick<Cgroups, 'kill'>;
  /** Takes the runtime's notes away; absent is success. */
  readonly forget: (ctx: Ctx, container: { id: string; handler: string }) => Promise<void>;
}

export const initBundleDir = (sandboxDir: string): string => join(sandboxDir, 'init');

interface InitFacts {
  readonly program: string;
  readonly cgroupsPath: string;
  readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
  readonly mappings: IdMappings | undefined;
}

/** config.json of the init. Pure. */
function initSpec(facts: InitFacts): unknown {
  const { mappings } = facts;
  // Nobody: the last id that there is inside.
  const nobody = Math.min(65_535, ...[...(mappings?.uids ?? []), ...(mappings?.gids ?? [])].map(({ size }) => size - 1));
  const none: readonly string[] = [];
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: nobody, gid: nobody },
      args: ['/init', '-P'],
      env: none,
      cwd: '/',
      capabilities: { bounding: none, effective: none, permitted: none },
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/init', type: 'bind', source: facts.program, options: ['bind', 'ro', 'nosuid', 'nodev'] },
    ],
    linux: {
      namespaces: [...facts.namespaces, { type: 'pid' }, { type: 'mount' }],
      ...(mappings === undefined ? {} : { uidMappings: ociMappings(mappings.uids), gidMappings: ociMappings(mappings.gids) }),
      cgroupsPath: facts.cgroupsPath,
      resources: { devices: [{ allow: false, access: 'rwm' }] },
    },
  };
}

/** The OCI runtime makes device nodes in it, as the root of the pod. */
async function makeRoot(rootfs: string, owner: Owner): Promise<void> {
  const dirs = [rootfs, join(rootfs, 'proc'), join(rootfs, 'dev')];
  for (const dir of dirs) await mkdir(dir, { recursive: true, mode: 0o755 });
  await writeFile(join(rootfs, 'init'), '');
  if (owner.uid !== 0 || owner.gid !== 0) for (const dir of dirs) await chown(dir, owner.uid, owner.gid);
}

/** Starts the init; returns once it runs. What it leaves on failure, `stopInit` removes. */
export async function startInit(ctx: Ctx, deps: InitDeps, sandbox: SandboxRecord): Promise<ProcessId> {
  const bundleDir = initBundleDir(sandbox.dir);
  const mappings = userMappings(sandbox.config.linux?.securityContext?.namespaceOptions);
  await makeRoot(join(bundleDir, 'rootfs'), rootOf(mappings));
  const types = { user: 'user', net: 'network', ipc: 'ipc', uts: 'uts' } as const;
  const kinds: PinKind[] = [...(mappings === undefined ? [] : (['user'] as const)), ...sandboxWish(sandbox.config).pinned];
  const namespaces = kinds.map((kind) => ({ type: types[kind], path: namespacePath(sandbox.namespacesDir, kind) }));
  const spec = initSpec({ program: deps.program, cgroupsPath: deps.cgroupPlace(sandbox.config.linux?.cgroupParent ?? '', sandbox.id).cgroupsPath, namespaces, mappings });
  await writeFile(join(bundleDir, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
  const pidFile = join(bundleDir, 'pid');
  await deps.oci.runDetached(ctx, deps.resolveHandler(sandbox.runtimeHandler), { id: sandbox.id, bundleDir, pidFile });
  const id = identify(Number(await readFile(pidFile, 'utf8')));
  if (id === undefined) throw new Fault('internal', `the init of sandbox ${sandbox.id} ended at once`);
  return id;
}

/** Ends it, and with it every process of the pod's pid namespace; its group is empty then. Absent is success: may run twice. */
export async function stopInit(ctx: Ctx, deps: StopInitDeps, sandbox: SandboxRecord, handler: string): Promise<void> {
  // SIGKILL, never SIGTERM: pid 1 without a handler yet would ignore it.
  if (sandbox.init !== undefined && signalProcess(sandbox.init, 'SIGKILL')) await whenGone(ctx, sandbox.init);
  for (const resource of sandbox.owns) if (resource.kind === 'cgroup') await deps.cgroups.kill(ctx, resource.path);
  await deps.forget(ctx, { id: sandbox.id, handler });
}
