/**
 * CreateContainer: note → root → who and where (passwd, mounts, devices) → config.json → runtime, while the monitor gets ready beside it. The whole list of what it will own is in
 * the record before the first of it is made, so that a failure here and a kill at any line end in the same teardown.
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ContainerConfig, ContainerMetadata, Mount } from '#cri-api';
import { allEnded } from '#host/all-ended.ts';
import { nowNs } from '#host/clock.ts';
import { type Ctx, detached, withFields } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { rootOf } from '#host/id-mapping.ts';
import { letIn } from '#host/let-in.ts';
import { namespacePath } from '#host/namespaces.ts';
import type { Nri } from '../nri/nri.ts';
import type { CgroupPlace } from '../oci/cgroup-path.ts';
import { writeConfigFile } from '../oci/config-file.ts';
import { type MonitorOrder, type MonitorPaths, startMonitor } from '../oci/conmon.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import { giveStdioOf } from '../oci/stdio-owner.ts';
import { appArmorChoice } from '../spec/apparmor.ts';
import { askedCdiDevices } from '../spec/cdi.ts';
import { containerSpec, type SandboxFacts, type SpecHost } from '../spec/container-spec.ts';
import type { ImageDefaults } from '../spec/process.ts';
import { stopSignalOf } from '../spec/signals.ts';
import { selinuxLabels } from '../spec/selinux.ts';
import { assertSameMappings } from '../spec/user-namespace.ts';
import { resolveUser } from '../spec/user.ts';
import type { UserNamespace } from '../snapshot/overlay.ts';
import type { ContainerRecord, ContainerUser } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { Flights } from '../state/flights.ts';
import { type ContainerId, containerName, newContainerId } from '../state/ids.ts';
import type { KeyedLock } from '../state/keyed-lock.ts';
import type { CriPaths } from '../state/paths.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import { adjustContainer } from './adjust.ts';
import { assertLoadedProfile } from './apparmor.ts';
import { type ImageVolume, imageVolumes, mountImageVolume, type PrepareReadonly } from './image-volumes.ts';
import { mapVolume } from './mapped-volume.ts';
import { prepareVolumes, readAccounts } from './rootfs-files.ts';
import { sandboxFacts } from './sandbox-facts.ts';
import { hostDevices, prepareMounts, relabelSources, seccompFile } from './sources.ts';

/** What a container needs of an image (ImageRecord fits). */
export interface ContainerImage {
  readonly id: string;
  readonly config: ImageDefaults;
  /** Chain ids: noted in the record, for they must stay while the container does, even when the image goes. */
  readonly layers: readonly string[];
}

/** How a container sees the files of images. */
interface RootfsView {
  readonly userNamespace: UserNamespace | undefined;
  /** Of SELinux. */
  readonly mountLabel: string | undefined;
}

export interface CreateDeps<Image extends ContainerImage = ContainerImage> {
  readonly paths: CriPaths;
  readonly monitor: MonitorPaths;
  readonly nri: Pick<Nri, 'enter' | 'createContainer' | 'postCreateContainer' | 'undoCreateContainer'>;
  readonly host: SpecHost;
  readonly containers: ContainerStore;
  readonly sandboxes: Pick<SandboxStore, 'get'>;
  readonly flights: Flights<ContainerId>;
  readonly lock: KeyedLock<ContainerId>;
  /** By id, tag or digest, as the CRI names it. */
  readonly findImage: (ref: string) => Image | undefined;
  /** Mounts an image at `<dir>/rootfs`; `readonly` for an image volume. */
  readonly prepareRootfs: (ctx: Ctx, request: { id: string; dir: string; image: Image; readonly?: true } & RootfsView) => Promise<{ rootfs: string }>;
  /** The runtime of a handler name as a sandbox record has it ('' is the default). */
  readonly runtimeOf: (handler: string) => OciRuntime;
  /** Adds what CDI devices need (`vendor.com/class=name`). Fault 'invalid' for one that is not known. */
  readonly injectCdiDevices: (spec: OciSpec, names: readonly string[]) => Promise<OciSpec>;
  /** Where the container's group is; `parent` is the sandbox's cgroup_parent, maybe empty. */
  readonly cgroupPlace: (parent: string, id: string) => CgroupPlace;
  /** Moves a monitor out of the daemon's own control group; undefined where nobody would kill it there. */
  readonly placeMonitor?: ((pid: number) => Promise<void>) | undefined;
  /** Watches for the exit of the new container. */
  readonly watchExit: (record: ContainerRecord) => void;
  readonly teardown: (ctx: Ctx, id: ContainerId) => Promise<void>;
}

export interface CreateRequest {
  readonly podSandboxId: string;
  readonly config: ContainerConfig | undefined;
}

/** Longest that making a container may take, whatever the caller's deadline. */
const makingTimeoutMs = 5 * 60_000;

/** Makes a container that only has to be started, or nothing. The same name twice: joins the first while it is under way, Fault already-exists after it. */
export async function createContainer<Image extends ContainerImage>(ctx: Ctx, deps: CreateDeps<Image>, request: CreateRequest): Promise<ContainerId> {
  const { config } = request;
  if (config === undefined) throw new Fault('invalid', 'config: is missing');
  if (config.metadata === undefined || config.metadata.name === '') throw new Fault('invalid', 'config.metadata.name: is missing');
  const sandbox = readySandbox(deps, request.podSandboxId);
  const name = containerName(config.metadata, sandbox.config.metadata ?? { name: '', uid: '', namespace: '', attempt: 0 });
  const order: Order = { config, metadata: config.metadata, sandboxId: sandbox.id, name };
  return deps.flights.join(ctx, name, () => makeContainer(detached(ctx, makingTimeoutMs), deps, order));
}

interface Order {
  readonly config: ContainerConfig;
  readonly metadata: ContainerMetadata;
  readonly sandboxId: string;
  readonly name: string;
}

function readySandbox(deps: Pick<CreateDeps, 'sandboxes'>, id: string): SandboxRecord {
  const sandbox = deps.sandboxes.get(id);
  if (sandbox.state.name !== 'ready') throw new Fault('precondition', `sandbox ${sandbox.id} is not ready`);
  return sandbox;
}

async function makeContainer<Image extends ContainerImage>(ctx: Ctx, deps: CreateDeps<Image>, order: Order): Promise<ContainerId> {
  const { containers } = deps;
  const taken = containers.findByName(order.name);
  if (taken !== undefined) throw new Fault('already-exists', `container name ${order.name} is reserved for ${taken.id}`);
  const sandbox = readySandbox(deps, order.sandboxId);
  const ref = order.config.image?.image ?? '';
  const image = deps.findImage(ref);
  if (image === undefined) throw new Fault('not-found', `image ${JSON.stringify(ref)} not found`);
  assertSameMappings(order.config.linux?.securityContext?.namespaceOptions, sandbox.config.linux?.securityContext?.namespaceOptions);
  const volumes = imageVolumes(order.config.mounts, deps.findImage);
  const runtime = deps.runtimeOf(sandbox.runtimeHandler);
  const id = newContainerId();
  const place = deps.cgroupPlace(sandbox.config.linux?.cgroupParent ?? '', id);
  const record = newRecord(deps, { id, order, sandbox, image, volumes, runtime, place });
  const own = withFields(ctx, { container: id, sandbox: sandbox.id });
  // A removal of its sandbox waits until it is whole or gone.
  using _ = await deps.lock.hold(id);
  await containers.add(record);
  try {
    if (record.logPath !== undefined) await mkdir(dirname(record.logPath), { recursive: true, mode: 0o755 });
    using monitor = startMonitor(deps.monitor, { runtime, place: deps.placeMonitor, order: monitorOrder(record) });
    const { spec, user } = await prepare(own, deps, { record, order, sandbox, image, volumes, runtime, place });
    using _entered = await deps.nri.enter();
    const adjusted = await adjustContainer(own, deps, { record, spec, cgroupDriver: runtime.cgroupDriver });
    await writeConfigFile(record.bundleDir, adjusted);
    const made = await monitor.create(own);
    giveStdioOf(adjusted, made.process.pid);
    // It may have been stopped meanwhile: nothing may be born into it.
    readySandbox(deps, sandbox.id);
    deps.watchExit(await containers.update(id, { type: 'made', atNs: nowNs(), user, ...made }));
  } catch (cause) {
    await deps.nri.undoCreateContainer(own, record);
    await deps.teardown(detached(own), id).then(
      () => containers.delete(id),
      // The record stays with what is left on its list: the next removal or start goes on from there.
      (error: unknown) => own.log.error({ err: error }, 'cannot undo a failed container'),
    );
    throw cause;
  }
  await deps.nri.postCreateContainer(own, containers.get(id));
  return id;
}

function monitorOrder({ id, name, bundleDir, logPath, config }: ContainerRecord): MonitorOrder {
  return { id, name, bundleDir, logPath, tty: config.tty, stdin: config.stdin, stdinOnce: config.stdinOnce };
}

interface NewRecordFacts {
  readonly id: ContainerId;
  readonly order: Order;
  readonly sandbox: SandboxRecord;
  readonly image: ContainerImage;
  readonly volumes: readonly ImageVolume<ContainerImage>[];
  readonly runtime: OciRuntime;
  readonly place: CgroupPlace;
}

function newRecord(deps: Pick<CreateDeps, 'paths'>, facts: NewRecordFacts): ContainerRecord {
  const { id, order, sandbox, image, volumes, runtime, place } = facts;
  const { config } = order;
  const bundleDir = deps.paths.containerDir(id);
  const spec = config.image;
  return {
    version: 1,
    id,
    sandboxId: sandbox.id,
    name: order.name,
    config,
    image: { id: image.id, ref: spec?.userSpecifiedImage || spec?.image || image.id, layers: image.layers },
    imageVolumes: volumes.map(({ mountIndex, image: { id: imageId, layers } }) => ({ mountIndex, imageId, layers })),
    runtimeHandler: runtime.name,
    bundleDir,
    logPath: logPathOf(sandbox.config.logDirectory, config.logPath),
    cgroupPath: place.cgroupPath,
    stopSignal: stopSignalOf(config, image.config),
    user: undefined,
    resources: config.linux?.resources,
    process: undefined,
    monitor: undefined,
    state: { name: 'making', createdAtNs: nowNs() },
    owns: [
      { kind: 'rootfs', dir: bundleDir },
      { kind: 'cgroup', path: place.cgroupPath },
      { kind: 'oci', id, handler: runtime.name },
    ],
  };
}

/** Both parts or no log (CRI api.proto ContainerConfig.log_path). Fault 'invalid' for a path that leaves the directory. */
function logPathOf(directory: string, path: string): string | undefined {
  if (directory === '' || path === '') return undefined;
  if (path.split('/').includes('..')) throw new Fault('invalid', `log_path ${JSON.stringify(path)} may not contain ".."`);
  return join(directory, path);
}

interface Preparation<Image> {
  readonly record: ContainerRecord;
  readonly order: Order;
  readonly sandbox: SandboxRecord;
  readonly image: Image;
  readonly volumes: readonly ImageVolume<Image>[];
  readonly runtime: OciRuntime;
  readonly place: CgroupPlace;
}

async function prepare<Image extends ContainerImage>(ctx: Ctx, deps: CreateDeps<Image>, work: Preparation<Image>): Promise<{ spec: OciSpec; user: ContainerUser }> {
  const { record, sandbox, image, order } = work;
  const { config } = order;
  const context = config.linux?.securityContext;
  const facts = sandboxFacts(sandbox, namespacePath);
  const userNamespace = userNamespaceOf(facts);
  const mountLabel = selinuxLabels(context, { enabled: deps.host.selinux, level: facts.selinuxLevel })?.mount;
  const [{ rootfs }, mounts, devices, seccomp] = await allEnded([
    deps.prepareRootfs(ctx, { id: record.id, dir: record.bundleDir, image, userNamespace, mountLabel }),
    prepareMounts(config.mounts, {
      image: (mount, index) => imageVolume(ctx, deps, { ...work, mount, index, userNamespace, mountLabel }),
      mapped: work.runtime.features.idmappedMounts
        ? undefined
        : (mount, mountIndex, source) => mapVolume({ bundleDir: record.bundleDir, mountIndex, mount, source, userNamespace }),
    }),
    hostDevices(config, { all: !work.runtime.privilegedWithoutHostDevices }),
    seccompFile(config),
    letIn(record.bundleDir, facts.mappings),
    assertLoadedProfile(appArmorChoice(context), deps.host.appArmor),
  ]);
  if (mountLabel !== undefined) await relabelSources(mounts, mountLabel);
  const user = resolveUser(context, image.config, readAccounts(rootfs));
  const readonlyRootfs = context?.readonlyRootfs ?? false;
  const volumes = prepareVolumes(rootfs, { volumes: image.config.volumes ?? [], mounts: config.mounts, readonlyRootfs, owner: rootOf(facts.mappings) });
  const spec = containerSpec({
    id: record.id,
    config,
    sandbox: facts,
    image: { ...image.config, name: record.image.ref },
    user,
    rootfs,
    cgroup: work.place,
    mounts,
    volumes,
    devices,
    seccompFile: seccomp,
    targetPid: targetPid(deps, record, context?.namespaceOptions?.targetId ?? ''),
    features: work.runtime.features,
    hasHostDevices: !work.runtime.privilegedWithoutHostDevices,
    host: deps.host,
  });
  return { spec: await deps.injectCdiDevices(spec, askedCdiDevices(config)), user: { uid: user.uid, gid: user.gid, supplementalGroups: user.additionalGids } };
}

const userNamespaceOf = ({ mappings, namespaces: { user } }: SandboxFacts): UserNamespace | undefined =>
  (mappings === undefined || user === undefined ? undefined : { path: user, mappings });

function imageVolume<Image extends ContainerImage>(
  ctx: Ctx,
  deps: CreateDeps<Image>,
  at: Preparation<Image> & RootfsView & { mount: Mount; index: number },
): Promise<string> | undefined {
  const { record, userNamespace, mountLabel } = at;
  const volume = at.volumes.find(({ mountIndex }) => mountIndex === at.index);
  const prepareReadonly: PrepareReadonly<Image> = (own, request) => deps.prepareRootfs(own, { ...request, userNamespace, mountLabel });
  return volume && mountImageVolume(ctx, prepareReadonly, { id: record.id, bundleDir: record.bundleDir, volume, mount: at.mount });
}

/** The namespace of the container that pid mode TARGET names. Fault 'invalid' when it is of another pod, 'precondition' when it does not run. */
function targetPid(deps: Pick<CreateDeps, 'containers'>, record: ContainerRecord, targetId: string): string | undefined {
  if (targetId === '') return undefined;
  const target = deps.containers.get(targetId);
  if (target.sandboxId !== record.sandboxId) throw new Fault('invalid', `target_id ${targetId}: that container is in another sandbox`);
  if (target.process === undefined || (target.state.name !== 'running' && target.state.name !== 'created')) throw new Fault('precondition', `target_id ${targetId}: that container does not run`);
  return `/proc/${target.process.pid}/ns/pid`;
}
