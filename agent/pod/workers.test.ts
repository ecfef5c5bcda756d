/** Whole lives of pods on a runtime in memory: workers, passes, statuses and events together. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { quietCtx } from '#host/log.ts';
import { FakeCri, FakeFailure } from '../cri/cri.fake.ts';
import { connectRuntime } from '../cri/runtime.ts';
import { Images } from '../image/ensure.ts';
import type { Pod, PodStatus } from '../kube/types.ts';
import { agentPaths } from '../paths.ts';
import { StatusWriter } from '../status/writer.ts';
import { CrashBackOff } from './crash-back-off.ts';
import { container, podOf } from './observed.fake.ts';
import type { PodDeps } from './pod-deps.ts';
import { PodWorkers } from './workers.ts';

const image = 'demo:1';
/** Generous: the machine may be busy. */
const patienceMs = 20_000;

interface World extends AsyncDisposable {
  readonly cri: FakeCri;
  readonly workers: PodWorkers;
  readonly events: string[];
  readonly deleted: string[];
  status(uid?: string): PodStatus | undefined;
  until(what: string, check: () => boolean): Promise<void>;
  clockMs: number;
}

async function world(): Promise<World> {
  const cri = await FakeCri.start([image]);
  const dir = await mkdtemp(join(tmpdir(), 'agent-'));
  const { runtime, close } = connectRuntime(cri.endpoint, { timeoutMs: patienceMs });
  const stop = new AbortController();
  const ctx = { ...quietCtx(), signal: stop.signal };
  await runtime.version(ctx);
  const events: string[] = [];
  const deleted: string[] = [];
  const recorder: PodDeps['events'] = { event: (_about, _type, reason, message) => void events.push(`${reason}: ${message}`) };
  const status = new StatusWriter(ctx, {
    patchStatus: (_ctx, pod) => Promise.resolve(pod),
    remove: async (_ctx, pod) => {
      deleted.push(pod.metadata?.uid ?? '');
      workers.remove(pod.metadata?.uid ?? '');
    },
  });
  const made = { clockMs: 0 };
  const nowMs = (): number => Date.now() + made.clockMs;
  const deps: PodDeps = {
    runtime, status, events: recorder, nowMs,
    images: new Images({ runtime, events: recorder, nowMs }),
    objects: { configMap: () => Promise.resolve(undefined), secret: () => Promise.resolve(undefined) },
    volumes: { mount: () => Promise.resolve(new Map()), unmount: () => Promise.resolve(), subPath: () => Promise.resolve('') },
    groups: undefined, mirrors: undefined,
    paths: agentPaths({ root: dir, podLogsRoot: join(dir, 'logs'), containerLogsDir: join(dir, 'links') }),
    backOff: new CrashBackOff(),
    probes: { started: () => undefined, ready: () => undefined },
    node: () => ({
      hostIPs: ['192.168.0.1'], allocatable: {}, memoryBytes: 1e9,
      dns: { node: { nameservers: [], searches: [], options: [] }, clusterDNS: [], clusterDomain: 'cluster.local', isStandalone: true },
      security: { seccompDir: '/s', seccompDefault: false, extraMaskedPaths: [] }, resources: { cpuQuota: true, cgroupV2: true },
    }),
    networkProblem: () => undefined, serviceVariables: () => new Map(), runtimeHandler: () => Promise.resolve(''), admit: () => undefined,
  };
  const workers: PodWorkers = new PodWorkers(ctx, { deps, resyncMs: 60_000 });
  const until = async (what: string, check: () => boolean): Promise<void> => {
    for (const startMs = performance.now(); !check(); await sleep(5)) {
      if (performance.now() - startMs > patienceMs) assert.fail(`${what} did not happen; calls: ${cri.calls.join(', ')}; events: ${events.join(' | ')}`);
    }
  };
  return Object.assign(made, {
    cri, workers, events, deleted, until,
    status: (uid = 'u1') => status.get(uid),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await workers.quiet();
      close();
      await cri[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  });
}

const gone = (pod: Pod, graceSeconds = 3): Pod => ({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: graceSeconds } });

test('a pod comes up, is deleted, and leaves nothing', async () => {
  await using w = await world();
  const pod = podOf({ containers: [container('a'), container('b')] });
  w.workers.update(pod);
  await w.until('Running', () => w.status()?.phase === 'Running');
  assert.deepEqual(w.cri.calls, ['runPodSandbox p', 'createContainer a', 'startContainer a', 'createContainer b', 'startContainer b']);
  assert.equal(w.status()?.podIP, '10.0.0.1');
  assert.equal(w.status()?.conditions?.find(({ type }) => type === 'Ready')?.status, 'True');
  w.workers.update(gone(pod));
  await w.until('the API object is deleted', () => w.deleted.includes('u1'));
  await w.until('the worker is forgotten', () => !w.workers.has('u1'));
  assert.deepEqual(w.cri.calls.filter((call) => call.startsWith('stopContainer')).toSorted(), ['stopContainer a 3', 'stopContainer b 3']);
  assert.deepEqual([w.cri.containers.size, w.cri.sandboxes.size], [0, 0]);
  const started = ['Pulled: Container image "demo:1" already present on machine and can be accessed by the pod', 'Created: Container created', 'Started: Container started'];
  assert.deepEqual(w.events.slice(0, 6), [...started, ...started]);
  assert.deepEqual(w.events.slice(6).toSorted(), ['Killing: Stopping container a', 'Killing: Stopping container b']);
});

test('a crashing container is restarted at once, then held back, and counted', async () => {
  await using w = await world();
  w.cri.hooks = { exitsWith: () => 3 };
  const pod = podOf();
  w.workers.update(pod);
  await w.until('CrashLoopBackOff', () => w.status()?.containerStatuses?.[0]?.state?.waiting?.reason === 'CrashLoopBackOff');
  const [held] = w.status()?.containerStatuses ?? [];
  assert.equal(held?.restartCount, 1);
  assert.equal(held?.lastState?.terminated?.exitCode, 3);
  assert.equal(held?.state?.waiting?.message, 'back-off 10s restarting failed container=c pod=p_ns(u1)');
  assert.equal(w.status()?.phase, 'Running');
  assert.equal(w.events.at(-1), 'BackOff: Back-off restarting failed container c in pod p_ns(u1)');
  w.clockMs = 10_000;
  w.workers.wake('u1');
  await w.until('the third start', () => w.cri.named('c').length === 3);
  await w.until('20 s', () => w.status()?.containerStatuses?.[0]?.state?.waiting?.message?.startsWith('back-off 20s') === true);
  assert.equal(w.status()?.containerStatuses?.[0]?.restartCount, 2);
});

test('a job of one pod succeeds, keeps its container for the log, and goes when it is deleted', async () => {
  await using w = await world();
  w.cri.hooks = { exitsWith: (name) => (name === 'i' ? 0 : undefined) };
  const pod = podOf({ restartPolicy: 'Never', initContainers: [container('i')] });
  w.workers.update(pod);
  await w.until('Running', () => w.status()?.phase === 'Running');
  const [job] = w.cri.named('c');
  assert.ok(job !== undefined);
  w.cri.exit(job, 0);
  w.workers.wake('u1');
  await w.until('finished', () => w.workers.stateOf('u1') === 'finished');
  assert.equal(w.status()?.phase, 'Succeeded');
  assert.equal(w.cri.containers.size, 2);
  assert.equal(w.deleted.length, 0);
  w.workers.update(gone(pod));
  await w.until('deleted', () => w.deleted.length === 1 && !w.workers.has('u1'));
  assert.equal(w.cri.containers.size, 0);
});

test('a pod deleted while its image is being pulled does not wait for it', async () => {
  await using w = await world();
  const pulling = Promise.withResolvers<void>();
  w.cri.hooks = {
    before: async (rpc) => {
      if (rpc !== 'pullImage') return;
      pulling.resolve();
      await sleep(patienceMs, undefined, { ref: false });
    },
  };
  const pod = podOf({ containers: [container('c', { image: 'slow:1' })] });
  w.workers.update(pod);
  await pulling.promise;
  w.workers.update(gone(pod));
  await w.until('deleted', () => w.deleted.length === 1);
  assert.equal(w.cri.sandboxes.size, 0);
});

test('a sandbox that cannot be made is said in an event, and the pod waits', async () => {
  await using w = await world();
  w.cri.hooks = { before: (rpc) => { if (rpc === 'runPodSandbox') throw new FakeFailure('no network'); } };
  w.workers.update(podOf());
  await w.until('the event', () => w.events.length > 0);
  assert.deepEqual(w.events, ['FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network']);
  assert.equal(w.status()?.phase, 'Pending');
  assert.equal(w.status()?.containerStatuses?.[0]?.state?.waiting?.reason, 'ContainerCreating');
});

test('one container that cannot be made does not stop the others', async () => {
  await using w = await world();
  w.cri.hooks = { before: (rpc, subject) => { if (rpc === 'createContainer' && subject === 'a') throw new FakeFailure('bad mount'); } };
  w.workers.update(podOf({ containers: [container('a'), container('b')] }));
  await w.until('b runs', () => w.status()?.containerStatuses?.[1]?.state?.running !== undefined);
  assert.deepEqual(w.status()?.containerStatuses?.[0]?.state?.waiting, { reason: 'CreateContainerError', message: 'rpc error: code = Unknown desc = bad mount' });
  assert.equal(w.status()?.phase, 'Pending');
});

test('a new agent finds what runs, starts nothing again and knows the restart counts', async () => {
  await using w = await world();
  w.cri.hooks = { exitsWith: (_name, attempt) => (attempt === 0 ? 1 : undefined) };
  w.workers.update(podOf());
  await w.until('running after one crash', () => w.cri.named('c').length === 2 && w.status()?.phase === 'Running');
  await w.workers.quiet();
  const before = w.cri.calls.length;
  const { runtime, close } = connectRuntime(w.cri.endpoint, { timeoutMs: patienceMs });
  const observed = await runtime.observe(quietCtx(), 'u1');
  close();
  assert.deepEqual(observed.containers.map(({ state, notes }) => `${state} ${notes.restartCount}`), ['running 1', 'exited 0']);
  w.workers.wake('u1');
  await w.workers.quiet();
  assert.equal(w.cri.calls.length, before);
});

test('a static pod that changed starts when the one before it is gone', async () => {
  await using w = await world();
  const file = (uid: string): Pod => podOf({}, { uid, annotations: { 'kubernetes.io/config.source': 'file' } });
  w.workers.update(file('old'));
  await w.until('the old one runs', () => w.status('old')?.phase === 'Running');
  w.workers.remove('old');
  w.workers.update(file('new'));
  await w.until('the new one runs', () => w.status('new')?.phase === 'Running');
  assert.equal(w.workers.has('old'), false);
  const [first, stopped, second] = w.cri.calls.filter((call) => /^(runPodSandbox|stopContainer)/.test(call));
  assert.deepEqual([first, stopped, second], ['runPodSandbox p', 'stopContainer c 30', 'runPodSandbox p']);
});

test('an orphan of the runtime ends quickly and is told to nobody', async () => {
  await using w = await world();
  w.workers.update(podOf());
  await w.until('Running', () => w.status()?.phase === 'Running');
  await using other = await world();
  for (const [id, sandbox] of w.cri.sandboxes) other.cri.sandboxes.set(id, sandbox);
  for (const [id, each] of w.cri.containers) other.cri.containers.set(id, each);
  other.workers.adopt({ metadata: { uid: 'u1', name: 'p', namespace: 'ns' }, spec: { containers: [] } }, 1);
  await other.until('gone', () => other.cri.sandboxes.size === 0 && !other.workers.has('u1'));
  assert.deepEqual(other.cri.calls.filter((call) => call.startsWith('stopContainer')), ['stopContainer c 2']);
  assert.equal(other.deleted.length, 0);
});
