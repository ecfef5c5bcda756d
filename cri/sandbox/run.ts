/**
 * RunPodSandbox: note → directory → namespaces → shared memory → network → files → init → plugins. Each thing is noted in the record before it is
 * made, so that a failure here and a kill at any line end in the same teardown.
 */
import { mkdir } from 'node:fs/promises';
import { hostname as hostHostname } from 'node:os';
import { join } from 'node:path';
import type { PodSandboxConfig } from '#cri-api';
import { allEnded } from '#host/all-ended.ts';
import type { QuickMoves } from '#host/cgroup-moves.ts';
import { nowNs } from '#host/clock.ts';
import { type Ctx, detached, withFields } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { type Owner, rootOf } from '#host/id-mapping.ts';
import { letIn } from '#host/let-in.ts';
import { mount } from '#host/mount.ts';
import { namespacePath, pinNamespaces } from '#host/namespaces.ts';
import type { ProcessId } from '#host/process.ts';
import { pinUserNamespaces } from '#host/user-namespace.ts';
import { relabel } from '#host/relabel.ts';
import type { Nri } from '../nri/nri.ts';
import type { CgroupPlace } from '../oci/cgroup-path.ts';
import { mountLabel, podLevel } from '../spec/selinux.ts';
import type { Flights } from '../state/flights.ts';
import { newSandboxId, type SandboxId, sandboxName } from '../state/ids.ts';
import type { CriPaths } from '../state/paths.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import { writeSandboxFiles } from './files.ts';
import { sandboxWish, type SandboxWish } from './request.ts';

export interface RunDeps {
  readonly paths: CriPaths;
  readonly sandboxes: SandboxStore;
  readonly flights: Flights<SandboxId>;
  readonly network: {
    /** Fault unavailable while there is no network to attach to. */
    assertReady(): void;
    attach(ctx: Ctx, sandbox: SandboxRecord): Promise<{ ips: readonly string[]; cniResult: unknown }>;
  };
  /** Fault invalid for an unknown handler; returns its real name. */
  readonly resolveHandler: (name: string) => string;
  readonly cgroupPlace: (parent: string, id: string) => CgroupPlace;
  readonly nri: Pick<Nri, 'enter' | 'runPodSandbox'>;
  /** Fault unimplemented, with the reason, where pods cannot have user namespaces. */
  readonly assertUserNamespaces: () => void;
  /** The host uses SELinux. */
  readonly selinux: boolean;
  readonly startInit: (ctx: Ctx, sandbox: SandboxRecord) => Promise<ProcessId>;
  readonly teardown: (ctx: Ctx, id: SandboxId) => Promise<void>;
  /** Its containers come at once. */
  readonly moves: QuickMoves;
}

/** Longest that making a sandbox may take, whatever the caller's deadline. */
const makingTimeoutMs = 5 * 60_000;
const sharedMemoryBytes = 64 * 1024 * 1024;

/**
 * Makes a sandbox that is ready, or nothing. The same name twice: joins the first while it is under way, Fault already-exists after it.
 */
export async function runPodSandbox(ctx: Ctx, deps: RunDeps, request: { config: PodSandboxConfig | undefined; runtimeHandler: string }): Promise<SandboxId> {
  const wish = sandboxWish(request.config);
  deps.resolveHandler(request.runtimeHandler);
  if (wish.mappings !== undefined) deps.assertUserNamespaces();
  const name = sandboxName(wish.metadata);
  return deps.flights.join(ctx, name, () => makeSandbox(detached(ctx, makingTimeoutMs), deps, { wish, name, runtimeHandler: request.runtimeHandler }));
}

async function makeSandbox(ctx: Ctx, deps: RunDeps, order: { wish: SandboxWish; name: string; runtimeHandler: string }): Promise<SandboxId> {
  const { sandboxes } = deps;
  const { wish, name } = order;
  using _ = deps.moves.hold();
  const taken = sandboxes.findByName(name);
  if (taken !== undefined) throw new Fault('already-exists', `sandbox name ${name} is reserved for ${taken.id}`);
  if (!wish.hostNetwork) deps.network.assertReady();
  const id = newSandboxId();
  const own = withFields(ctx, { sandbox: id, pod: `${wish.metadata.namespace}/${wish.metadata.name}` });
  await sandboxes.add(newRecord(deps, id, order));
  try {
    await build(own, deps, id, wish);
    using _ = await deps.nri.enter();
    await deps.nri.runPodSandbox(own, sandboxes.get(id));
    await sandboxes.update(id, { type: 'made' });
  } catch (cause) {
    await deps.teardown(detached(own), id).then(
      () => sandboxes.delete(id),
      // The record stays with what is left on its list: the next start or removal goes on from there.
      (error: unknown) => own.log.error({ err: error }, 'cannot undo a failed sandbox'),
    );
    throw cause;
  }
  own.log.info({ ips: sandboxes.find(id)?.ips }, 'sandbox ready');
  return id;
}

function newRecord(deps: RunDeps, id: SandboxId, order: { wish: SandboxWish; name: string; runtimeHandler: string }): SandboxRecord {
  const { wish } = order;
  const namespacesDir = deps.paths.namespacesDir(id);
  const sharedMemory = join(deps.paths.sandboxDir(id), 'shm');
  return {
    version: 1,
    id,
    name: order.name,
    config: wish.config,
    runtimeHandler: order.runtimeHandler,
    createdAtNs: nowNs(),
    dir: deps.paths.sandboxDir(id),
    namespacesDir,
    hostname: wish.config.hostname === '' ? hostHostname() : wish.config.hostname,
    ...(deps.selinux ? { selinuxLevel: freeLevel(deps, wish) } : {}),
    ips: [],
    cniResult: undefined,
    init: undefined,
    state: { name: 'making' },
    owns: [
      ...(wish.pinned.length > 0 ? [{ kind: 'namespaces', dir: namespacesDir } as const] : []),
      ...(wish.pinned.includes('ipc') ? [{ kind: 'mount', target: sharedMemory } as const] : []),
      // CNI may leave things behind even when ADD fails, so the attachment is ours from now on.
      ...(wish.hostNetwork ? [] : [{ kind: 'network', netnsPath: namespacePath(namespacesDir, 'net') } as const]),
      ...(wish.sharesPid
        ? [
            { kind: 'cgroup', path: deps.cgroupPlace(wish.config.linux?.cgroupParent ?? '', id).cgroupPath } as const,
            { kind: 'oci', id, handler: deps.resolveHandler(order.runtimeHandler) } as const,
          ]
        : []),
    ],
  };
}

const freeLevel = ({ sandboxes }: RunDeps, wish: SandboxWish): string =>
  podLevel(wish.config.linux?.securityContext?.selinuxOptions, new Set(sandboxes.list().map(({ selinuxLevel = '' }) => selinuxLevel)), Math.random);

async function build(ctx: Ctx, deps: RunDeps, id: SandboxId, wish: SandboxWish): Promise<void> {
  const { sandboxes } = deps;
  const record = sandboxes.get(id);
  if (wish.config.logDirectory !== '') await mkdir(wish.config.logDirectory, { recursive: true, mode: 0o755 });
  const owner = rootOf(wish.mappings);
  const label = record.selinuxLevel && mountLabel(record.selinuxLevel);
  await letIn(record.dir, wish.mappings);
  await pin(ctx, record, wish);
  if (wish.pinned.includes('ipc')) await mountSharedMemory(join(record.dir, 'shm'), owner, label);
  const [attached, init] = await allEnded([
    wish.hostNetwork ? undefined : deps.network.attach(ctx, record),
    wish.sharesPid ? deps.startInit(ctx, record) : undefined,
  ]);
  if (attached !== undefined) await sandboxes.update(id, { type: 'network-attached', ...attached });
  if (init !== undefined) await sandboxes.update(id, { type: 'init-started', init });
  await writeSandboxFiles(record.dir, { hostname: record.hostname, ips: attached?.ips ?? [], dns: wish.config.dnsConfig, owner });
  if (label !== undefined) for (const name of ['hosts', 'hostname', 'resolv.conf']) await relabel(join(record.dir, name), label);
}

async function pin(ctx: Ctx, record: SandboxRecord, wish: SandboxWish): Promise<void> {
  const request = { dir: record.namespacesDir, kinds: wish.pinned, hostname: record.hostname, sysctls: wish.sysctls };
  if (wish.mappings === undefined) pinNamespaces(request);
  else await pinUserNamespaces(ctx, { ...request, mappings: wish.mappings });
}

async function mountSharedMemory(target: string, { uid, gid }: Owner, label: string | undefined): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 });
  const context = label === undefined ? [] : [`context="${label}"`];
  const options = ['nosuid', 'nodev', 'noexec', 'mode=1777', `uid=${uid}`, `gid=${gid}`, `size=${sharedMemoryBytes}`, ...context];
  await mount({ source: 'shm', target, type: 'tmpfs', options });
}
