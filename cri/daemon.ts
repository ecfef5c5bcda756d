/** The CRI server from start to stop: load, recover, listen. Stopping leaves every container running. */
import { type Ctx, detached } from '#host/ctx.ts';
import { withLive } from '#host/config/key.ts';
import type { RunningHalf } from '#host/daemon/half.ts';
import { type CriConfig, criKeys } from './config.ts';
import { killLeftoverExecs } from './container/leftover-execs.ts';
import { removeOrphan, teardownContainer } from './container/teardown.ts';
import { buildParts, type CriParts } from './parts.ts';
import { startNri } from './nri/service.ts';
import { recover } from './recover.ts';
import { reload } from './reload.ts';
import { whenGone } from '#host/process.ts';
import { ownVersion } from '#host/version.ts';
import { collectNetworks } from './sandbox/collect-networks.ts';
import { removeOrphanSandbox } from './sandbox/teardown.ts';
import { isStarted } from './oci/runtime.ts';
import { stopHeld, stopPodSandbox } from './sandbox/stop.ts';
import { selfCall } from './self-call.ts';
import { imageService } from './service/image-service.ts';
import { listen } from './service/listen.ts';
import { runtimeService } from './service/runtime-service.ts';
import { layersOf } from './state/container-record.ts';
import type { SandboxRecord } from './state/sandbox-record.ts';
import { startStreaming } from './streaming/server.ts';
import { streamingTargets } from './streaming-targets.ts';
import { Sweeper } from './sweeper.ts';
import { startTelemetry } from './telemetry.ts';
import { imageVerbs, runtimeVerbs } from './verbs.ts';

/** How long open calls may go on when the server stops. */
const stopGraceMs = 2000;

/** Under the lock of its root directory. Fault precondition when a program is missing. Stopping also ends the open calls; a look goes through the socket. */
export async function startCri(ctx: Ctx, config: CriConfig): Promise<RunningHalf<CriConfig>> {
  const version = ownVersion();
  const ended = new AbortController();
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, ended.signal]) };
  await using undo = new AsyncDisposableStack();
  const parts = await buildParts(own, config);
  undo.defer(() => parts.images.close());
  undo.defer(() => ended.abort());
  let current = config;
  followInits(own, parts);
  await recover(own, recoverDeps(own, parts));
  if (parts.nriPlugins !== undefined) undo.defer((await startNri(own, parts.nriPlugins, config.nri, { name: 'nodelet', version })).stop);
  const telemetry = await startTelemetry(own, config, parts, version);
  undo.defer(() => telemetry.stop());
  const streaming = await startStreaming(own, config.streaming, streamingTargets(parts));
  const imageSweeper = new Sweeper(own, 'images', (at) => parts.images.sweep(at, () => new Set(parts.containers.list().flatMap(layersOf))));
  undo.defer(() => imageSweeper.stop());
  const networkSweeper = new Sweeper(own, 'networks', (at) => collectNetworks(at, parts));
  undo.defer(() => networkSweeper.stop());
  const services = {
    runtime: runtimeService(own.log, runtimeVerbs(parts, () => current, streaming, version)),
    image: imageService(own.log, imageVerbs(parts, () => imageSweeper.soon())),
  };
  const listening = await listen(config.socket, services, telemetry.interceptors);
  // Together: an open exec is a call and a stream.
  undo.defer(async () => void (await Promise.all([listening.close(stopGraceMs), streaming.stop()])));
  undo.defer(() => parts.events.close());
  own.log.info({ socket: config.socket, runtimes: parts.runtimes.named.map(({ version }) => version), containers: parts.containers.list().length }, 'CRI server ready');
  // Not before it listens: a plugin may still hang.
  networkSweeper.soon();
  const running = undo.move();
  return {
    look: async (context) => {
      await selfCall(context, config.socket);
      const pods = parts.sandboxes.list().filter(({ state }) => state.name === 'ready').length;
      return `${pods} pods, ${parts.containers.list().filter(({ state }) => state.name === 'running').length} containers`;
    },
    reload: async (context, next, changed) => {
      await reload(context, { ...parts, streaming }, { config: next, changed });
      current = withLive(criKeys, current, next);
    },
    stop: () => running.disposeAsync(),
  };
}

const recoverDeps = (ctx: Ctx, parts: CriParts): Parameters<typeof recover>[1] => ({
  paths: parts.paths,
  containers: parts.containers,
  sandboxes: parts.sandboxes,
  watchContainer: (record) => parts.exits.resume(record),
  watchInit: (record) => watchInit(ctx, parts, record),
  teardownContainer: (own, id) => teardownContainer(own, parts.removeContainer, id),
  removeOrphanContainer: (own, dir) => removeOrphan(own, parts.removeContainer, dir),
  removeOrphanSandbox: (own, dir) => removeOrphanSandbox(own, parts.removeContainer, dir),
  isStarted: (own, record) => isStarted(own, parts.runtimeOf(record.runtimeHandler), record.id),
  keepAnswer: (record) => {
    if ('sandboxId' in record) parts.flights.containers.keep(record.name, record.id);
    else parts.flights.sandboxes.keep(record.name, record.id);
  },
  killLeftoverExecs: (own) => killLeftoverExecs(own, parts),
  teardownSandbox: parts.removeSandbox.teardown,
  stopSandbox: async (own, id) => void (await stopPodSandbox(own, parts.removeSandbox, id)),
});

/** Watches the init of each sandbox from the moment it is ready. */
function followInits(ctx: Ctx, parts: CriParts): void {
  const watched = new Set<string>();
  parts.sandboxes.onChange((record) => {
    if (record.state.name === 'not-ready') watched.delete(record.id);
    if (record.state.name !== 'ready' || record.init === undefined || watched.has(record.id)) return;
    watched.add(record.id);
    watchInit(ctx, parts, record);
  });
}

/** A pod whose init died has lost all its processes: it is not ready any more, and what it held is released. */
function watchInit(ctx: Ctx, parts: CriParts, record: SandboxRecord): void {
  if (record.init === undefined) return;
  whenGone(ctx, record.init)
    .then(async () => {
      // A stop of ours, which ends the init too, holds the lock until it is done.
      using _ = await parts.removeSandbox.lock.hold(record.id);
      if (parts.sandboxes.find(record.id)?.state.name !== 'ready') return;
      ctx.log.warn({ sandbox: record.id }, 'the init of a sandbox died');
      await stopHeld(detached(ctx), parts.removeSandbox, record.id);
    })
    .catch((error: unknown) => {
      if (!ctx.signal.aborted) ctx.log.error({ err: error, sandbox: record.id }, 'cannot stop a sandbox whose init died');
    });
}
