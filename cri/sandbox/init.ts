/**
 * The init of a pod whose containers share one pid namespace: a tiny program that reaps orphans and otherwise sleeps. It is run by the
 * OCI runtime, confined like any container (no capabilities, an empty read-only root), but without a monitor: nobody wants its exit code.
 * One file on the host is bound into every pod, so that its pages are shared.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { namespacePath } from '#host/namespaces.ts';
import { identify, type ProcessId, signalProcess, whenGone } from '#host/process.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';

export interface InitDeps {
  /** Absolute path of a static program that takes `-P` for "only reap". */
  readonly program: string;
  readonly cgroupsPath: (sandbox: SandboxRecord) => string;
  readonly oci: {
    /** Creates and starts a container whose process outlives the runtime; its pid is in `pidFile` then. */
    runDetached(ctx: Ctx, handler: string, container: { id: string; bundleDir: string; pidFile: string }): Promise<void>;
    /** Removes the runtime's state, cgroup included; absent is success. */
    delete(ctx: Ctx, handler: string, id: string): Promise<void>;
  };
  readonly resolveHandler: (name: string) => string;
}

/** config.json of the init. Pure. */
function initSpec(facts: { program: string; cgroupsPath: string; namespaces: readonly { type: string; path?: string }[] }): unknown {
  const none: readonly string[] = [];
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 65535, gid: 65535 },
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
    linux: { namespaces: [{ type: 'pid' }, { type: 'mount' }, ...facts.namespaces], cgroupsPath: facts.cgroupsPath, resources: { devices: [{ allow: false, access: 'rwm' }] } },
  };
}

/** Starts the init; returns once it runs. What it leaves on failure, `stopInit` removes. */
export async function startInit(ctx: Ctx, deps: InitDeps, sandbox: SandboxRecord): Promise<ProcessId> {
  const bundleDir = join(sandbox.dir, 'init');
  await mkdir(join(bundleDir, 'rootfs'), { recursive: true, mode: 0o755 });
  for (const dir of ['proc', 'dev']) await mkdir(join(bundleDir, 'rootfs', dir), { recursive: true });
  await writeFile(join(bundleDir, 'rootfs', 'init'), '');
  const pinned = sandbox.owns.some(({ kind }) => kind === 'namespaces');
  const types = { net: 'network', ipc: 'ipc', uts: 'uts' } as const;
  const isHostNetwork = !sandbox.owns.some(({ kind }) => kind === 'network');
  const isHostIpc = !sandbox.owns.some(({ kind }) => kind === 'mount');
  const namespaces = pinned
    ? (['net', 'ipc', 'uts'] as const).filter((kind) => (kind === 'ipc' ? !isHostIpc : !isHostNetwork)).map((kind) => ({ type: types[kind], path: namespacePath(sandbox.namespacesDir, kind) }))
    : [];
  const spec = initSpec({ program: deps.program, cgroupsPath: deps.cgroupsPath(sandbox), namespaces });
  await writeFile(join(bundleDir, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
  const pidFile = join(bundleDir, 'pid');
  await deps.oci.runDetached(ctx, deps.resolveHandler(sandbox.runtimeHandler), { id: sandbox.id, bundleDir, pidFile });
  const id = identify(Number(await readFile(pidFile, 'utf8')));
  if (id === undefined) throw new Fault('internal', `the init of sandbox ${sandbox.id} ended at once`);
  return id;
}

/** Ends it, and with it every process of the pod's pid namespace. Absent is success: may run twice. */
export async function stopInit(ctx: Ctx, deps: InitDeps, sandbox: SandboxRecord, handler: string): Promise<void> {
  // SIGKILL, never SIGTERM: pid 1 without a handler yet would ignore it.
  if (sandbox.init !== undefined && signalProcess(sandbox.init, 'SIGKILL')) await whenGone(ctx, sandbox.init);
  await deps.oci.delete(ctx, handler, sandbox.id);
}
