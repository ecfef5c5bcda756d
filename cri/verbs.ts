/** The verbs of the CRI on the parts of this server: what cri/service calls. */
import { type Encoded, encoded, Image, PodSandbox } from '#cri-api';
import { findProgram } from '#host/exec.ts';
import type { ImageVerbs } from './service/image-service.ts';
import type { RuntimeVerbs } from './service/runtime-service.ts';
import { runtimeConfig, status, version } from './service/runtime-status.ts';
import type { CriConfig } from './config.ts';
import { checkpointContainer } from './container/checkpoint.ts';
import { createContainer } from './container/create.ts';
import { execSync } from './container/exec-sync.ts';
import { containerEncoder, listContainers } from './container/list.ts';
import { removeContainer } from './container/remove.ts';
import { reopenContainerLog } from './container/reopen-log.ts';
import { startContainer } from './container/start.ts';
import { containerInfo, containerStatus } from './container/status.ts';
import { stopContainer } from './container/stop.ts';
import { updateContainerResources } from './container/update-resources.ts';
import { Fault, isFault } from '#host/fault.ts';
import type { CriParts } from './parts.ts';
import { startInit } from './sandbox/init.ts';
import { removePodSandbox } from './sandbox/remove.ts';
import { runPodSandbox } from './sandbox/run.ts';
import { isVisible, matchesFilter, podSandbox, podSandboxInfo, podSandboxStatus } from './sandbox/status.ts';
import { stopPodSandbox } from './sandbox/stop.ts';
import { updatePodSandboxResources } from './sandbox/update-resources.ts';
import type { ContainerId } from './state/ids.ts';
import { PerVersion } from './state/per-version.ts';
import type { SandboxRecord } from './state/sandbox-record.ts';
import { metricDescriptors } from './stats/metric-families.ts';
import { listPodSandboxMetrics } from './stats/metrics.ts';
import type { Streaming } from './streaming/server.ts';
import { containerStats, listContainerStats, listPodSandboxStats, podSandboxStats } from './stats/stats.ts';

type SandboxVerbs = Pick<RuntimeVerbs, 'runPodSandbox' | 'stopPodSandbox' | 'removePodSandbox' | 'updatePodSandboxResources' | 'podSandboxStatus' | 'listPodSandbox'>;
type ContainerVerbs = Pick<
  RuntimeVerbs,
  'createContainer' | 'startContainer' | 'stopContainer' | 'removeContainer' | 'containerStatus' | 'listContainers' | 'updateContainerResources' | 'reopenContainerLog' | 'checkpointContainer' | 'execSync'
>;

/** `config` is asked each time: it changes by reloads. */
export function runtimeVerbs(parts: CriParts, config: () => CriConfig, streaming: Streaming, nodeletVersion: string): RuntimeVerbs {
  const { stats, cgroups, runtimes } = parts;
  // A runtime that does not see version 2 beside version 1 makes no group there, which is where pressure is told.
  const hasPressure = cgroups.hasPressure && runtimes.all.some(({ entry }) => entry.create.length === 0);
  const described = metricDescriptors({ version: cgroups.version, controllers: cgroups.controllers, hasPressure });
  return {
    version: () => version(nodeletVersion),
    status: (isVerbose) =>
      status(
        {
          network: parts.cni.status(),
          handlers: parts.runtimes.named.map((runtime) => ({
            name: runtime.name,
            features: { recursiveReadOnlyMounts: runtime.features.recursiveReadOnly, userNamespaces: parts.noUserNamespaces === undefined },
          })),
          defaultHandler: parts.runtimes.forNew('').name,
          config: config(),
        },
        isVerbose,
      ),
    runtimeConfig: () => runtimeConfig(config().cgroupDriver),
    setPodCidr: (_ctx, cidr) => parts.cni.setPodCidrs(cidr.split(',')),
    ...sandboxVerbs(parts),
    ...containerVerbs(parts),
    ...streamingVerbs(parts, streaming),
    containerStats: (ctx, id) => containerStats(ctx, stats, id),
    listContainerStats: (ctx, filter) => listContainerStats(ctx, stats, filter),
    podSandboxStats: (ctx, id) => podSandboxStats(ctx, stats, id),
    listPodSandboxStats: (ctx, filter) => listPodSandboxStats(ctx, stats, filter),
    metricDescriptors: () => described,
    listPodSandboxMetrics: (ctx) => listPodSandboxMetrics(ctx, stats),
    containerEvents: (ctx) => parts.events.listen(ctx.signal, () => ctx.log.warn('a client of GetContainerEvents is too slow: it misses events')),
  };
}

function sandboxVerbs(parts: CriParts): SandboxVerbs {
  const { sandboxes, removeSandbox } = parts;
  const run = {
    paths: parts.paths,
    sandboxes,
    flights: parts.flights.sandboxes,
    network: parts.network,
    nri: parts.nri,
    resolveHandler: parts.init.resolveHandler,
    cgroupPlace: parts.init.cgroupPlace,
    selinux: parts.createContainer.host.selinux,
    assertUserNamespaces: () => {
      if (parts.noUserNamespaces !== undefined) throw new Fault('unimplemented', `user namespaces do not work here: ${parts.noUserNamespaces}`);
    },
    startInit: (ctx: Parameters<typeof startInit>[0], sandbox: Parameters<typeof startInit>[2]) => startInit(ctx, parts.init, sandbox),
    teardown: removeSandbox.teardown,
    moves: parts.moves,
  };
  const visible = (id: string): ReturnType<typeof sandboxes.get> => {
    const record = sandboxes.get(id);
    if (!isVisible(record)) throw new Fault('not-found', `sandbox ${JSON.stringify(id)} not found`);
    return record;
  };
  const shown = new PerVersion<SandboxRecord, Encoded<PodSandbox>>();
  return {
    runPodSandbox: (ctx, request) => runPodSandbox(ctx, run, request),
    stopPodSandbox: async (ctx, id) => void (await stopPodSandbox(ctx, removeSandbox, id)),
    removePodSandbox: (ctx, id) => removePodSandbox(ctx, removeSandbox, id),
    updatePodSandboxResources: (ctx, request) => updatePodSandboxResources(ctx, { sandboxes, nri: parts.nri }, request),
    podSandboxStatus: (id, isVerbose) => {
      const record = visible(id);
      return { status: podSandboxStatus(record), info: isVerbose ? podSandboxInfo(record) : {} };
    },
    listPodSandbox: (filter) => sandboxes.list().filter((record) => matchesFilter(record, filter)).map((record) => shown.of(record, (each) => encoded(PodSandbox, podSandbox(each)))),
  };
}

function containerVerbs(parts: CriParts): ContainerVerbs {
  const { containers, sandboxes, runtimeOf, cgroups, exits, asked, repoDigestOf, nri, containerLock: lock } = parts;
  const encode = containerEncoder(repoDigestOf);
  return {
    createContainer: (ctx, request) => createContainer(ctx, parts.createContainer, request),
    startContainer: (ctx, id) => startContainer(ctx, { containers, sandboxes, lock, flights: parts.flights.containers, runtimeOf, nri }, id),
    stopContainer: (ctx, id, graceSeconds) => stopContainer(ctx, { containers, exits, cgroups, asked }, { id, graceSeconds }),
    removeContainer: (ctx, id) => removeContainer(ctx, parts.removeContainer, id),
    containerStatus: async (id, isVerbose) => {
      const record = containers.get(id);
      return { status: containerStatus(record, repoDigestOf), info: isVerbose ? await containerInfo(record) : {} };
    },
    listContainers: (filter) => listContainers(containers.list(), filter, encode),
    checkpointContainer: (ctx, request) => checkpointContainer(ctx, { containers, lock, runtimeOf, findCriu: () => findProgram('criu') }, request),
    updateContainerResources: (ctx, id, resources) =>
      updateContainerResources(ctx, { containers, cgroups, lock, nri, host: parts.createContainer.host }, { id, resources }),
    reopenContainerLog: (ctx, id) => reopenContainerLog(ctx, { containers }, id),
    execSync: (ctx, request) => execSync(ctx, { containers, runtimeOf, cgroups, scratchDir: parts.scratchDir }, request),
  };
}

/** Only for what is there and runs: clients that get a URL expect it to work. */
function streamingVerbs({ containers, sandboxes }: CriParts, streaming: Streaming): Pick<RuntimeVerbs, 'exec' | 'attach' | 'portForward'> {
  const running = (id: string): ContainerId => {
    const record = containers.get(id);
    if (record.state.name !== 'running') throw new Fault('precondition', `container ${record.id} is not running`);
    return record.id;
  };
  return {
    exec: (request) => streaming.exec({ ...request, containerId: running(request.containerId) }),
    attach: (request) => streaming.attach({ ...request, containerId: running(request.containerId) }),
    portForward: (request) => {
      const record = sandboxes.get(request.podSandboxId);
      if (record.state.name !== 'ready') throw new Fault('precondition', `sandbox ${record.id} is not ready`);
      return streaming.portForward({ ...request, podSandboxId: record.id });
    },
  };
}

/** `onRemoved` is told when layers can go that nobody needs any more. */
export function imageVerbs(parts: CriParts, onRemoved: () => void): ImageVerbs {
  const { images } = parts;
  return {
    list: (ref) => images.list(ref).map((image) => encoded(Image, image)),
    status: (ref, isVerbose) => images.status(ref, { verbose: isVerbose }),
    pull: async (ctx, request) => {
      try {
        return (await images.pull(ctx, request)).id;
      } catch (error) {
        // The layers that did fit are in the way now.
        if (isFault(error, 'exhausted')) onRemoved();
        throw error;
      }
    },
    remove: async (ctx, ref) => {
      await images.remove(ctx, ref);
      onRemoved();
    },
    fsInfo: () => images.fsInfo(),
  };
}
