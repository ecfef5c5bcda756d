/** For root tests: one ready sandbox with real namespaces, a busybox image, and every container verb wired to the real conmon and OCI runtime. */
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig } from '#cri-api';
import { openCgroups } from '#host/cgroup.ts';
import { slowMoves } from '#host/cgroup-moves.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import type { Ctx } from '#host/ctx.ts';
import { findProgram } from '#host/exec.ts';
import { quietCtx } from '#host/log.ts';
import { mount } from '#host/mount.ts';
import { readMounts } from '#host/mountinfo.ts';
import { pinNamespaces, unpinNamespaces } from '#host/namespaces.ts';
import { letIn } from '#host/let-in.ts';
import { allPids } from '#host/process.ts';
import { removeTree } from '#host/remove-tree.ts';
import { pinUserNamespaces } from '#host/user-namespace.ts';
import { noNri } from '../nri/nri.ts';
import { cgroupPlace } from '../oci/cgroup-path.ts';
import type { MonitorPaths } from '../oci/conmon.ts';
import { probeRuntimes } from '../oci/probe.ts';
import { forgetContainer, type OciRuntime } from '../oci/runtime.ts';
import type { SpecHost } from '../spec/container-spec.ts';
import { userMappings } from '../spec/user-namespace.ts';
import type { ChainId } from '../snapshot/chain-id.ts';
import { prepareRootfs, removeRootfs } from '../snapshot/overlay.ts';
import { containerStore, type ContainerStore } from '../state/container-store.ts';
import { Flights } from '../state/flights.ts';
import { type ContainerId, newSandboxId, type SandboxId } from '../state/ids.ts';
import { KeyedLock } from '../state/keyed-lock.ts';
import { type CriPaths, criPaths } from '../state/paths.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { sandboxStore } from '../state/sandbox-store.ts';
import { injectCdiDevices } from './cdi.ts';
import { createContainer, type ContainerImage, type CreateDeps } from './create.ts';
import { execSync, type ExecSyncResult } from './exec-sync.ts';
import { type Exits, watchExits } from './exit.ts';
import { specHost } from './host.ts';
import { removeContainer } from './remove.ts';
import { startContainer } from './start.ts';
import { stopContainer } from './stop.ts';
import { teardownContainer, type TeardownDeps } from './teardown.ts';

const applets = ['sh', 'sleep', 'cat', 'echo', 'true', 'id', 'ls', 'touch', 'dd', 'yes', 'ps', 'pwd', 'env', 'hostname', 'mount', 'kill', 'mkdir', 'tail', 'wc', 'test', 'grep'];

/** What is missing for these tests, or undefined. */
export async function missing(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root';
  for (const program of ['conmon']) if ((await findProgram(program)) === undefined) return `needs ${program}`;
  if (!existsSync('/bin/busybox')) return 'needs /bin/busybox (busybox-static)';
  return undefined;
}

export interface TestPod {
  readonly ctx: Ctx;
  readonly dir: string;
  readonly paths: CriPaths;
  readonly cgroups: Cgroups;
  readonly cgroupParent: string;
  readonly runtime: OciRuntime;
  readonly host: SpecHost;
  readonly sandboxId: SandboxId;
  readonly containers: ContainerStore;
  readonly exits: Exits;
  readonly lock: KeyedLock<ContainerId>;
  readonly createDeps: CreateDeps;
  readonly teardownDeps: TeardownDeps;
  readonly logDir: string;
  create(config: Partial<ContainerConfig>): Promise<ContainerId>;
  start(id: ContainerId): Promise<void>;
  run(config: Partial<ContainerConfig>): Promise<ContainerId>;
  exec(id: ContainerId, command: readonly string[], timeoutSeconds?: number): Promise<ExecSyncResult>;
  stop(id: ContainerId, graceSeconds: number): Promise<void>;
  remove(id: ContainerId): Promise<void>;
  /** The exited state, waited for. */
  ended(id: ContainerId): Promise<{ exitCode: number; reason: string; message: string }>;
  [Symbol.asyncDispose](): Promise<void>;
}

let attempts = 0;
/** The test image has this one layer. */
export const busyboxLayer = `sha256:${'b'.repeat(64)}`;
/** A command, a private pid namespace, a log. */
export const shell = (script: string, rest: Partial<ContainerConfig> = {}): Partial<ContainerConfig> => ({ command: ['/bin/sh', '-c', script], ...rest });

export interface PodOptions {
  readonly podPrivileged?: boolean;
  readonly imageVolumes?: readonly string[];
  readonly privilegedWithoutHostDevices?: boolean;
  /** The pod has a user namespace of its own, whose root is this id on the host. */
  readonly rootId?: number;
}

export async function testPod(options: PodOptions = {}): Promise<TestPod> {
  const ctx = quietCtx();
  const dir = await mkdtemp(join(tmpdir(), 'nl-'));
  await chmod(dir, 0o711);
  const paths = criPaths({ rootDir: join(dir, 'root'), stateDir: join(dir, 'run') });
  const logDir = join(dir, 'logs');
  const scratchDir = join(dir, 'run/exec');
  for (const path of [paths.conmonSocketsDir, paths.exitsDir, scratchDir, logDir, paths.containersDir]) await mkdir(path, { recursive: true });
  const cgroups = openCgroups();
  const cgroupParent = `/nodelet-test-${process.pid}-${attempts++}`;
  const { privilegedWithoutHostDevices = false } = options;
  const runtime = { ...(await workingRuntime({ ctx, cgroups, cgroupParent, stateDir: join(dir, 'probe'), ociRootDir: paths.ociRootDir })), privilegedWithoutHostDevices };
  const host = await specHost({ cgroups, appArmorProfile: undefined });
  const base = await busyboxRoot(join(dir, 'base'));
  const sandboxes = sandboxStore(paths.sandboxesDir);
  const sandbox = await makeSandbox({ ctx, paths, logDir, cgroupParent, options });
  await sandboxes.add(sandbox);
  const containers = containerStore(paths.containersDir);
  const lock = new KeyedLock<ContainerId>();
  const flights = new Flights<ContainerId>();
  const monitor: MonitorPaths = { conmon: (await findProgram('conmon'))!, socketsDir: paths.conmonSocketsDir, exitsDir: paths.exitsDir };
  const runtimeOf = (): OciRuntime => runtime;
  const exits = watchExits(ctx, { containers, cgroups, runtimeOf, lock, monitor, nri: noNri });
  const forget: TeardownDeps['forget'] = (own, container) => forgetContainer(own, { runtimes: [runtime], ociRootDir: paths.ociRootDir }, container);
  const teardownDeps: TeardownDeps = { monitor, containers, cgroups, runtimes: () => [runtime], forget, removeRootfs };
  const image: ContainerImage = { id: `sha256:${'a'.repeat(64)}`, config: { env: ['FROM_IMAGE=yes'], cmd: ['/bin/sh'], volumes: options.imageVolumes ?? [] }, layers: [busyboxLayer] };
  const createDeps: CreateDeps = {
    paths, monitor, host, nri: noNri, containers, sandboxes, flights, lock, runtimeOf,
    findImage: (ref) => (ref === 'busybox' ? image : undefined),
    prepareRootfs: (own, { image: { layers }, ...request }) =>
      prepareRootfs(own, { layers: { exists: () => true, directory: () => base } }, { ...request, layers: layers as readonly ChainId[] }),
    injectCdiDevices: (spec, names) => injectCdiDevices([join(dir, 'cdi')], spec, names),
    cgroupPlace: (parent, id) => cgroupPlace({ driver: 'cgroupfs', parent, id }),
    watchExit: (record) => exits.watch(record),
    teardown: (own, id) => teardownContainer(own, teardownDeps, id),
  };
  const asked = new Set<ContainerId>();
  const pod: TestPod = {
    ctx, dir, paths, cgroups, cgroupParent, runtime, host, containers, exits, lock, createDeps, teardownDeps, logDir, sandboxId: sandbox.id,
    create: (config) => createContainer(ctx, createDeps, { podSandboxId: sandbox.id, config: containerConfig(config) }),
    start: (id) => startContainer(ctx, { containers, sandboxes, lock, flights, runtimeOf, nri: noNri }, id),
    run: async (config) => {
      const id = await pod.create(config);
      await pod.start(id);
      return id;
    },
    exec: (id, command, timeoutSeconds = 0) => execSync(ctx, { containers, runtimeOf, cgroups, scratchDir }, { id, command, timeoutSeconds }),
    stop: (id, graceSeconds) => stopContainer(ctx, { containers, exits, cgroups, asked }, { id, graceSeconds }),
    remove: (id) => removeContainer(ctx, { ...teardownDeps, containers, lock, flights, nri: noNri, told: (own, ended) => exits.exited(own, ended) }, id),
    ended: async (id) => {
      await exits.exited(ctx, id);
      const { state } = containers.get(id);
      if (state.name !== 'exited') throw new Error(`is ${state.name}`);
      return state;
    },
    [Symbol.asyncDispose]: async () => {
      for (const { id } of containers.list()) await pod.remove(id);
      unpinNamespaces(sandbox.namespacesDir);
      await removeTree(dir);
      await cgroups.remove(ctx, cgroupParent);
    },
  };
  return pod;
}

const containerConfig = (config: Partial<ContainerConfig>): ContainerConfig =>
  ContainerConfig.fromPartial({
    metadata: { name: `c${attempts++}`, attempt: 0 },
    image: { image: 'busybox' },
    logPath: `${attempts}.log`,
    linux: { resources: undefined, securityContext: { namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD } } },
    ...config,
  });

let known: OciRuntime | undefined;
/** The first that works here, found out once. */
async function workingRuntime(facts: { ctx: Ctx; cgroups: Cgroups; cgroupParent: string; stateDir: string; ociRootDir: (name: string) => string }): Promise<OciRuntime> {
  known ??= (await probeRuntimes(facts.ctx, { ...facts, configured: [], cgroupDriver: 'cgroupfs', moves: slowMoves, timeoutMs: 60_000 }))[0]!;
  return { ...known, rootDir: facts.ociRootDir(known.name) };
}

async function busyboxRoot(dir: string): Promise<string> {
  for (const name of ['bin', 'proc', 'sys', 'dev', 'etc', 'tmp']) await mkdir(join(dir, name), { recursive: true });
  await copyFile('/bin/busybox', join(dir, 'bin/busybox'));
  for (const name of applets) await symlink('busybox', join(dir, 'bin', name));
  await symlink('/etc', join(dir, 'config'));
  await writeFile(join(dir, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n');
  await writeFile(join(dir, 'etc/group'), 'root:x:0:\nalice:x:1001:\nextra:x:1002:alice\n');
  return dir;
}

async function makeSandbox(facts: { ctx: Ctx; paths: CriPaths; logDir: string; cgroupParent: string; options: PodOptions }): Promise<SandboxRecord> {
  const { paths, options: { podPrivileged = false, rootId } } = facts;
  const id = newSandboxId();
  const dir = paths.sandboxDir(id);
  const namespacesDir = paths.namespacesDir(id);
  await mkdir(join(dir, 'shm'), { recursive: true });
  for (const name of ['hosts', 'hostname', 'resolv.conf']) await writeFile(join(dir, name), `${name} of the pod\n`);
  await mount({ source: 'shm', target: join(dir, 'shm'), type: 'tmpfs', options: ['mode=1777', 'size=1m'] });
  await mkdir(join(paths.stateDir, 'ns'), { recursive: true });
  const range = rootId === undefined ? [] : [{ containerId: 0, hostId: rootId, length: 65_536 }];
  const namespaceOptions = rootId === undefined ? {} : { usernsOptions: { mode: NamespaceMode.POD, uids: range, gids: range } };
  const mappings = userMappings(NamespaceOption.fromPartial(namespaceOptions));
  const pins = { dir: namespacesDir, kinds: ['net', 'ipc', 'uts'], hostname: 'the-pod' } as const;
  if (mappings === undefined) pinNamespaces(pins);
  else await pinUserNamespaces(facts.ctx, { ...pins, mappings });
  await letIn(dir, mappings);
  const config = PodSandboxConfig.fromPartial({
    metadata: { name: 'pod', namespace: 'ns', uid: 'uid', attempt: 0 },
    logDirectory: facts.logDir,
    linux: { cgroupParent: facts.cgroupParent, securityContext: { privileged: podPrivileged, namespaceOptions } },
  });
  return {
    version: 1, id, name: 'pod', config, runtimeHandler: '', createdAtNs: 1n, dir, namespacesDir, hostname: 'the-pod', ips: [], cniResult: undefined, init: undefined,
    state: { name: 'ready' }, owns: [],
  };
}

/** Everything of the machine that a test could leave behind, as comparable text. */
export async function footprint(): Promise<{ mounts: string[]; conmons: string[]; groups: string[] }> {
  const commandLines = await Promise.all((await allPids()).map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return {
    mounts: (await readMounts()).map(({ mountPoint }) => mountPoint).filter((path) => path.includes('/nl-')),
    conmons: commandLines.filter((line) => line.includes(`${tmpdir()}/nl-`)),
    groups: (await Promise.all((await readdir('/sys/fs/cgroup')).map((tree) => readdir(join('/sys/fs/cgroup', tree)).catch(() => [])))).flat().filter((name) => name.startsWith(`nodelet-test-${process.pid}`)),
  };
}
