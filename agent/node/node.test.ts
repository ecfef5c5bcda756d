/** The Node object: what it says of a machine, and how it is kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { quietCtx } from '#host/log.ts';
import { failure, FakeApiServer } from '../kube/api-server.fake.ts';
import { createKubeClient } from '../kube/client.ts';
import { LogEventRecorder } from '../kube/events.ts';
import type { Node, NodeCondition } from '../kube/types.ts';
import { buildNode, buildStatus, statusFingerprint } from './build-node.ts';
import type { NodeSettings, RuntimeFacts } from './build-node.ts';
import { conditionEvents, nodeConditions, runtimeProblems } from './conditions.ts';
import { NodeAgent } from './heartbeat.ts';
import type { NodeRuntime } from './heartbeat.ts';
import { defaultRouteDevice, parseMeminfo, prettyName } from './host-info.ts';
import type { HostInfo } from './host-info.ts';
import { microTime, renewed } from './lease.ts';

const host: HostInfo = {
  hostName: 'box', machineId: 'm', systemUuid: 's', bootId: 'b', kernelVersion: '6.1.0', osImage: 'Debian', architecture: 'amd64',
  cores: 4, memoryBytes: 8 * 2 ** 30, swapBytes: 0, diskBytes: 100 * 1024 ** 2 * 1024, hugePages: new Map([[2048, 512 * 1024 ** 2], [1048576, 0]]),
};
const settings: NodeSettings = {
  nodeName: 'n1', nodeLabels: { pool: 'x' }, registerWithTaints: [{ key: 'k', effect: 'NoSchedule' }], providerID: 'p://1', nodeIP: '10.0.0.1', maxPods: 110,
  kubeReserved: { cpu: '100m', memory: '1Gi' }, systemReserved: { cpu: '0.2' },
};
const facts: RuntimeFacts = { version: 'nodelet://0.1.0', handlers: [{ name: '', recursiveReadOnlyMounts: true, userNamespaces: false }], supplementalGroupsPolicy: true, images: [] };

test('allocatable is capacity less reservations, eviction threshold and huge pages', () => {
  const { capacity, allocatable } = buildStatus(settings, host, facts, ['10.0.0.1'], 10250);
  assert.deepEqual(capacity, { cpu: '4', memory: '8388608Ki', 'ephemeral-storage': '104857600Ki', pods: '110', 'hugepages-2Mi': '524288Ki', 'hugepages-1Gi': '0' });
  assert.deepEqual(allocatable, { ...capacity, cpu: '3700m', memory: '6713344Ki', 'ephemeral-storage': String((100 * 1024 ** 3 * 9) / 10) });
});

test('a node carries the labels, taints and addresses that the scheduler and the API server look for', () => {
  const node = buildNode(settings, host, { ...buildStatus(settings, host, facts, ['10.0.0.1', 'fd00::1'], 10251), conditions: [] });
  assert.deepEqual(node.metadata?.labels, {
    'kubernetes.io/hostname': 'n1', 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'amd64', 'beta.kubernetes.io/os': 'linux', 'beta.kubernetes.io/arch': 'amd64', pool: 'x',
  });
  assert.deepEqual(node.spec, { providerID: 'p://1', taints: [{ key: 'k', effect: 'NoSchedule' }] });
  assert.deepEqual(node.status?.addresses, [{ type: 'InternalIP', address: '10.0.0.1' }, { type: 'InternalIP', address: 'fd00::1' }, { type: 'Hostname', address: 'box' }]);
  assert.equal(node.status?.daemonEndpoints?.kubeletEndpoint?.Port, 10251);
});

test('of many images the fifty largest are listed, five names each', () => {
  const images = Array.from({ length: 60 }, (_, i) => ({ names: Array.from({ length: 7 }, (_x, j) => `i${i}:${j}`), sizeBytes: i }));
  const listed = buildStatus(settings, host, { ...facts, images: [...images, { names: [], sizeBytes: 999 }] }, [], 1).images ?? [];
  assert.deepEqual([listed.length, listed[0]?.sizeBytes, listed[0]?.names?.length], [50, 59, 5]);
});

const ok = { reason: '', message: '' };
const problems: [string, Parameters<typeof runtimeProblems>[0], string[]][] = [
  ['no answer', undefined, ['container runtime is down']],
  ['all well', [{ type: 'RuntimeReady', status: true, ...ok }, { type: 'NetworkReady', status: true, ...ok }], []],
  ['no network', [{ type: 'RuntimeReady', status: true, ...ok }, { type: 'NetworkReady', status: false, reason: 'NetworkPluginNotReady', message: 'cni plugin not initialized' }],
    ['container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized']],
];
for (const [name, conditions, want] of problems) test(`the runtime says: ${name}`, () => assert.deepEqual(runtimeProblems(conditions), want));

test('conditions keep their transition time until they change, and say what changed', () => {
  const well = { problems: [], memoryPressure: false, diskPressure: false, pidPressure: false };
  const first = nodeConditions([], { ...well, problems: ['one', 'two'] }, 't1');
  const second = nodeConditions(first, { ...well, problems: ['one'] }, 't2');
  const third = nodeConditions(second, well, 't3');
  const ready = (list: NodeCondition[]): unknown[] => {
    const found = list.find(({ type }) => type === 'Ready');
    return [found?.status, found?.reason, found?.message, found?.lastTransitionTime, found?.lastHeartbeatTime];
  };
  assert.deepEqual(ready(first), ['False', 'KubeletNotReady', '[one, two]', 't1', 't1']);
  assert.deepEqual(ready(second), ['False', 'KubeletNotReady', 'one', 't1', 't2']);
  assert.deepEqual(ready(third), ['True', 'KubeletReady', 'kubelet is posting ready status', 't3', 't3']);
  assert.deepEqual(conditionEvents(second, third), ['NodeReady']);
  assert.deepEqual(conditionEvents(first, second), []);
  assert.equal(statusFingerprint({ conditions: second }), statusFingerprint({ conditions: nodeConditions(second, { ...well, problems: ['one'] }, 't9') }), 'time alone is no news');
});

test('small readers of the machine', () => {
  assert.deepEqual(parseMeminfo('MemTotal:       16 kB\nMemFree: 1 kB\nSwapTotal:  4 kB\n'), { totalBytes: 16384, swapBytes: 4096 });
  assert.equal(prettyName('NAME=x\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian'), 'Debian GNU/Linux 13 (trixie)');
  const route = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nwlan0\t00000000\t0101A8C0\t3\t0\t0\t600\t00000000\neth0\t00000000\t0101A8C0\t3\t0\t0\t100\t00000000\neth0\t0000A8C0\t0\t1\t0\t0\t0\t00FFFFFF\n';
  assert.equal(defaultRouteDevice(route), 'eth0');
  assert.equal(microTime(1_700_000_000_123_456_789n), '2023-11-14T22:13:20.123456Z');
});

test('a renewed lease keeps its owner and version', () => {
  const base = renewed(undefined, { nodeName: 'n1', nodeUid: () => 'u', durationSeconds: 40 });
  assert.deepEqual(base.metadata?.ownerReferences, [{ apiVersion: 'v1', kind: 'Node', name: 'n1', uid: 'u' }]);
  const again = renewed({ ...base, metadata: { ...base.metadata, resourceVersion: '7' } }, { nodeName: 'n1', nodeUid: () => 'other', durationSeconds: 40 });
  assert.deepEqual([again.metadata?.resourceVersion, again.metadata?.ownerReferences?.[0]?.uid], ['7', 'u']);
});

interface Scene extends AsyncDisposable {
  readonly api: FakeApiServer;
  readonly agent: NodeAgent;
  readonly runtime: { ready: boolean };
  readonly podCidrs: string[];
  until(what: (node: Node | undefined) => boolean): Promise<Node | undefined>;
}

async function scene(prepare: (api: FakeApiServer) => void = () => undefined): Promise<Scene> {
  const api = await FakeApiServer.start();
  prepare(api);
  const client = createKubeClient(api.access());
  const stop = new AbortController();
  const ctx: Ctx = { ...quietCtx(), signal: stop.signal };
  const state = { ready: false };
  const runtime: NodeRuntime = {
    version: () => Promise.resolve({ version: 'v1', runtimeName: 'nodelet', runtimeVersion: 'v0.1.0', runtimeApiVersion: 'v1' }),
    status: () => Promise.resolve({
      status: { conditions: [{ type: 'RuntimeReady', status: true, ...ok }, { type: 'NetworkReady', status: state.ready, ...ok }] }, info: {}, runtimeHandlers: [], features: undefined,
    }),
    images: () => Promise.resolve([]),
  };
  const podCidrs: string[] = [];
  const agent = new NodeAgent({
    client, runtime, host, settings, events: new LogEventRecorder(ctx), registerNode: true, port: 10250,
    leaseDurationSeconds: 4, updateFrequencyMs: 60_000, reportFrequencyMs: 300_000, onPodCidrs: (found) => podCidrs.push(...found),
  });
  const running = agent.run(ctx).catch(() => undefined);
  return {
    api, agent, runtime: state, podCidrs,
    until: async (what) => {
      for (;;) {
        const node = api.get('/api/v1/nodes/n1') as Node | undefined;
        if (what(node)) return node;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      client.close();
      await api[Symbol.asyncDispose]();
    },
  };
}

const readyIs = (status: string) => (node: Node | undefined): boolean => node?.status?.conditions?.some((one) => one.type === 'Ready' && one.status === status) === true;
const limit = { timeout: 30_000 };

test('a node registers not ready, learns its pod addresses, becomes ready with the network and holds its lease', limit, async () => {
  await using it = await scene();
  await it.until(readyIs('False'));
  const node = it.api.get('/api/v1/nodes/n1');
  it.api.put('/api/v1/nodes', { ...node, spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24'] } });
  while (it.podCidrs.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(it.podCidrs, ['10.1.0.0/24']);
  it.runtime.ready = true;
  it.agent.refresh();
  await it.until(readyIs('True'));
  assert.deepEqual(it.agent.ips, ['10.0.0.1']);
  while (it.api.get('/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1') === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  const reads = it.api.requests.filter(({ path, method, query }) => path === '/api/v1/nodes' && method === 'GET' && query.get('fieldSelector') !== 'metadata.name=n1');
  assert.deepEqual(reads, [], 'a node may only look at itself');
});

test('a node that exists keeps what others put on it and gets our labels', limit, async () => {
  await using it = await scene((api) => api.put('/api/v1/nodes', { metadata: { name: 'n1', labels: { role: 'db', pool: 'old' } }, spec: { taints: [{ key: 'theirs', effect: 'NoExecute' }] } }));
  const node = await it.until(readyIs('False'));
  assert.deepEqual([node?.metadata?.labels?.['role'], node?.metadata?.labels?.['pool'], node?.metadata?.labels?.['kubernetes.io/os']], ['db', 'x', 'linux']);
  assert.deepEqual(node?.spec?.taints, [{ key: 'theirs', effect: 'NoExecute' }]);
});

test('a node that was deleted registers again', limit, async () => {
  await using it = await scene();
  const first = await it.until(readyIs('False'));
  while (it.api.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  it.api.remove('/api/v1/nodes/n1');
  const again = await it.until((node) => node !== undefined && node.metadata?.uid !== first?.metadata?.uid);
  assert.equal(again?.metadata?.name, 'n1');
});

test('registration is tried until the API server takes it', limit, async () => {
  let refusals = 3;
  await using it = await scene((api) => {
    api.script = ({ method }) => (method === 'POST' && refusals-- > 0 ? failure(503, 'ServiceUnavailable') : undefined);
  });
  await it.until(readyIs('False'));
  assert.ok(refusals <= 0);
});
