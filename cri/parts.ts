/** Everything the CRI server consists of, put together: no decisions, only who gets whom. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Cni } from '#cni';
import { openCgroups } from '#host/cgroup.ts';
import { type QuickMoves, quickMoves } from '#host/cgroup-moves.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { findProgram } from '#host/exec.ts';
import { deviceOf } from '#host/mountinfo.ts';
import { Fault } from '#host/fault.ts';
import { warmThreadPool } from '#host/namespaces.ts';
import { type CriConfig, criKeys } from './config.ts';
import { loadDefaultProfile } from './container/apparmor.ts';
import { injectCdiDevices as injectCdi } from './container/cdi.ts';
import type { CreateDeps } from './container/create.ts';
import { type Exits, watchExits } from './container/exit.ts';
import type { RepoDigestOf } from './container/list.ts';
import { containerStatus } from './container/status.ts';
import type { RemoveDeps as RemoveContainerDeps } from './container/remove.ts';
import { killContainer, stopContainer } from './container/stop.ts';
import { removeContainer } from './container/remove.ts';
import { applyResources } from './container/update-resources.ts';
import { teardownContainer } from './container/teardown.ts';
import { specHost } from './container/host.ts';
import { EventHub } from './events/hub.ts';
import { type CriEventHub, publishEvents } from './events/publish.ts';
import { Images } from './image/images.ts';
import type { ImageRecord } from './image/store.ts';
import { type Nri, noNri } from './nri/nri.ts';
import { NriOnDemand } from './nri/on-demand.ts';
import { cgroupPlace } from './oci/cgroup-path.ts';
import { readConfigFile } from './oci/config-file.ts';
import { monitorPlacement } from './oci/monitor-group.ts';
import { probeRuntimes } from './oci/probe.ts';
import { RuntimeTable } from './oci/runtime-table.ts';
import { forgetContainer, makeDetached, type OciRuntime } from './oci/runtime.ts';
import { type InitDeps, stopInit } from './sandbox/init.ts';
import { sandboxNetwork, type SandboxNetwork } from './sandbox/network.ts';
import type { RemoveDeps as RemoveSandboxDeps } from './sandbox/remove.ts';
import { podSandboxStatus } from './sandbox/status.ts';
import { teardownSandbox } from './sandbox/teardown.ts';
import { prepareRootfs, removeRootfs, rootfsUsage } from './snapshot/overlay.ts';
import { whyNoUserNamespaces } from './snapshot/probe-mapped.ts';
import { containerStore, type ContainerStore } from './state/container-store.ts';
import { Flights } from './state/flights.ts';
import type { ContainerId, SandboxId } from './state/ids.ts';
import { KeyedLock } from './state/keyed-lock.ts';
import { criPaths, type CriPaths } from './state/paths.ts';
import type { SandboxRecord } from './state/sandbox-record.ts';
import { sandboxStore, type SandboxStore } from './state/sandbox-store.ts';
import { CpuRates } from './stats/cpu-rates.ts';
import { DiskUsage } from './stats/disk-usage.ts';
import type { MetricsDeps } from './stats/metrics.ts';
import type { StatsDeps } from './stats/stats.ts';

export interface CriParts {
  readonly paths: CriPaths;
  readonly cgroups: Cgroups;
  readonly moves: QuickMoves;
  readonly containers: ContainerStore;
  readonly sandboxes: SandboxStore;
  readonly images: Images;
  readonly repoDigestOf: RepoDigestOf;
  readonly cni: Cni;
  readonly network: SandboxNetwork;
  readonly runtimes: RuntimeTable;
  /** Of a pod that is there. */
  readonly runtimeOf: (handler: string) => OciRuntime;
  /** Those of a configured list that work here. */
  readonly probeRuntimes: (ctx: Ctx, configured: CriConfig['runtimes']) => Promise<OciRuntime[]>;
  /** Why pods cannot have user namespaces on this machine; undefined when they can. */
  readonly noUserNamespaces: string | undefined;
  readonly exits: Exits;
  /** What verbs tell NRI; `nriPlugins` is the same with its plugins, undefined when NRI is switched off. */
  readonly nri: Nri;
  readonly nriPlugins: NriOnDemand | undefined;
  readonly flights: { readonly sandboxes: Flights<SandboxId>; readonly containers: Flights<ContainerId> };
  readonly createContainer: CreateDeps<ImageRecord>;
  readonly containerLock: KeyedLock<ContainerId>;
  readonly removeContainer: RemoveContainerDeps;
  readonly removeSandbox: RemoveSandboxDeps;
  readonly init: InitDeps;
  readonly stats: StatsDeps & MetricsDeps;
  readonly events: CriEventHub;
  /** Containers that were asked to stop. */
  readonly asked: Set<ContainerId>;
  readonly scratchDir: string;
}

/** Opens and loads everything; touches no container. `ctx` is the process's. Fault precondition when a program is missing. */
export async function buildParts(ctx: Ctx, config: CriConfig): Promise<CriParts> {
  await warmThreadPool();
  const paths = criPaths(config);
  const cgroups = openCgroups();
  const moves = quickMoves(ctx.log);
  const scratchDir = join(paths.stateDir, 'exec');
  for (const dir of [paths.stateDir, paths.conmonSocketsDir, paths.exitsDir, scratchDir]) await mkdir(dir, { recursive: true, mode: 0o711 });
  const monitor = { socketsDir: paths.conmonSocketsDir, exitsDir: paths.exitsDir };
  const containers = containerStore(paths.containersDir);
  const sandboxes = sandboxStore(paths.sandboxesDir);
  const cni = new Cni({ ...config.cni, cacheDir: paths.cniDir, defaultNetwork: { podCidrs: config.cni.podCidrs, bridge: config.cni.bridge }, ...chainOption(config) });
  const probe: CriParts['probeRuntimes'] = (own, configured) => probeRuntimes(own, {
    configured, cgroupDriver: config.cgroupDriver, cgroupParent: config.cgroupDriver === 'systemd' ? 'system.slice' : '', stateDir: paths.stateDir, ociRootDir: paths.ociRootDir, cgroups, moves,
    timeoutMs: config.runtimeTimeoutMs,
  });
  const [images, working, conmon, noUserNamespaces] = await Promise.all([
    Images.open(ctx, { imagesDir: paths.imagesDir, layersDir: paths.layersDir, certsDir: config.certsDir, ...config.images }),
    probe(ctx, config.runtimes),
    needed(config.conmon, 'the package conmon'),
    whyNoUserNamespaces(ctx, { dir: join(paths.rootDir, 'probe'), pinDir: join(paths.stateDir, 'probe-ns') }),
    containers.load(ctx),
    sandboxes.load(ctx),
    cni.start(ctx),
  ]);
  const repoDigestOf: RepoDigestOf = (imageId) => images.find(imageId)?.repoDigests[0];
  const events: CriEventHub = new EventHub(monotonicMs);
  publishEvents({ hub: events, containers, sandboxes, podSandboxStatus, containerStatus: (record) => containerStatus(record, repoDigestOf) });
  const runtimes = new RuntimeTable(working, config.defaultRuntime);
  const runtimeOf = (handler: string): OciRuntime => runtimes.forExisting(handler);
  const flights = { sandboxes: new Flights<SandboxId>(), containers: new Flights<ContainerId>() };
  const network = sandboxNetwork(cni);
  const containerLock = new KeyedLock<ContainerId>();
  const asked = new Set<ContainerId>();
  const host = await specHost({ cgroups, appArmorProfile: await loadDefaultProfile(ctx) });
  const kill = (own: Ctx, id: string): Promise<void> => stopContainer(own, { containers, exits, cgroups, asked }, { id, graceSeconds: 0 });
  const injectCdiDevices: CreateDeps['injectCdiDevices'] = (spec, names) => injectCdi(config.cdiSpecDirs, spec, names);
  const nriPlugins = config.nri.enabled
    ? new NriOnDemand({
        sandboxes, containers, host, validator: config.nri.defaultValidator,
        readSpec: (record) => readConfigFile(record.bundleDir),
        injectCdiDevices,
        updateContainer: async (own, id, resources) => void (await applyResources(own, { containers, cgroups, host, lock: containerLock }, { id, resources })),
        evictContainer: kill,
      })
    : undefined;
  const nri: Nri = nriPlugins ?? noNri;
  const exits = watchExits(ctx, { containers, cgroups, runtimeOf, nri, lock: containerLock, monitor });
  const forget = (own: Ctx, container: { id: string; handler: string }): Promise<void> => forgetContainer(own, { runtimes: runtimes.all, ociRootDir: paths.ociRootDir }, container);
  const teardownDeps = { monitor, containers, cgroups, runtimes: () => runtimes.all, forget, removeRootfs };
  const rates = new CpuRates();
  const disk = new DiskUsage(rootfsUsage, monotonicMs);
  const removeContainerDeps: RemoveContainerDeps = {
    ...teardownDeps, nri, lock: containerLock, flights: flights.containers,
    // What went wrong is in the log.
    told: (own, id) => exits.exited(own, id).catch(() => undefined),
    onRemoved: (record) => {
      asked.delete(record.id);
      rates.forget(record.cgroupPath);
      disk.forget(record.bundleDir);
    },
  };
  const place = (parent: string, id: string): ReturnType<typeof cgroupPlace> => cgroupPlace({ driver: config.cgroupDriver, parent, id });
  const init: InitDeps = {
    program: (await findProgram(config.podInit)) ?? config.podInit,
    cgroupPlace: place,
    oci: {
      runDetached: (own, handler, box) => makeDetached(own, runtimeOf(handler), { verb: 'run', ...box, logFile: join(box.bundleDir, 'log') }),
    },
    resolveHandler: (name) => runtimes.forNew(name).name,
  };
  return {
    paths, cgroups, moves, containers, sandboxes, images, repoDigestOf, events, cni, network, runtimes, runtimeOf, probeRuntimes: probe, exits, nri, nriPlugins, flights, containerLock, init, asked,
    scratchDir,
    noUserNamespaces,
    removeContainer: removeContainerDeps,
    createContainer: {
      paths, containers, sandboxes, runtimeOf, nri, host, injectCdiDevices, flights: flights.containers, lock: containerLock,
      monitor: { conmon, ...monitor },
      findImage: (ref) => images.find(ref),
      prepareRootfs: (own, { image, ...request }) => prepareRootfs(own, images, { ...request, layers: image.layers }),
      cgroupPlace: place,
      placeMonitor: await monitorPlacement(cgroups),
      watchExit: (record) => exits.watch(record),
      teardown: (own, id) => teardownContainer(own, removeContainerDeps, id),
    },
    removeSandbox: {
      sandboxes, nri, flights: flights.sandboxes, lock: new KeyedLock<SandboxId>(),
      containersOf: (id) => containers.list().filter(({ sandboxId }) => sandboxId === id).map((record) => record.id),
      killContainer: (own, id) => killContainer(own, { containers, exits, cgroups, asked, lock: containerLock }, id),
      removeContainer: (own, id) => removeContainer(own, removeContainerDeps, id),
      teardown: (own, id) => teardownSandbox(own, { sandboxes, cgroups, network, stopInit: (at, sandbox, handler) => stopInit(at, { cgroups, forget }, sandbox, handler) }, id),
    },
    stats: {
      containers, sandboxes, cgroups, rates, disk, containersDir: paths.containersDir, containersDevice: await deviceOf(paths.containersDir),
      podCgroup: (sandbox: SandboxRecord) => podCgroup(config, sandbox),
    },
  };
}

/** A second nodelet on one machine, which needs a bridge of its own, must not take the first one's chain away. */
export const masqueradeChainOf = (config: CriConfig): { chain: string } | undefined =>
  config.cni.bridge === criKeys.cni.keys.bridge.byDefault ? undefined : { chain: `NODELET-MASQ-${config.cni.bridge}`.slice(0, 28) };

const chainOption = (config: CriConfig): { masquerade?: { chain: string } } => {
  const masquerade = masqueradeChainOf(config);
  return masquerade === undefined ? {} : { masquerade };
};

function podCgroup(config: CriConfig, sandbox: SandboxRecord): string {
  const parent = sandbox.config.linux?.cgroupParent ?? '';
  if (parent === '') return '';
  const inside = cgroupPlace({ driver: config.cgroupDriver, parent, id: 'x' }).cgroupPath;
  return inside.slice(0, inside.lastIndexOf('/'));
}

async function needed(program: string, hint: string): Promise<string> {
  const path = await findProgram(program);
  if (path === undefined) throw new Fault('precondition', `${program} is not installed: it comes with ${hint}`);
  return path;
}
