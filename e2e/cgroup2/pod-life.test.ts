/**
 * Pods on cgroup v2 with each OCI runtime: limits, numbers, OOM kills, a daemon that is killed, nothing left.
 * Only there: hack/test-cgroup2.sh brings a v2 machine to every machine, and on hybrid ones Debian 12's crun does not work.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { CriServer } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { removeEmptyFolders } from '../harness/private.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { crictlFor, type Crictl } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const parent = `/e2e-cgroup2-${process.pid}`;
const isCgroup2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
/** Processes are slow in user-mode-linux. */
const patience = { withinMs: 240_000, everyMs: 1000 };
const slowly = { timeoutMs: 240_000 };

interface ContainerStatus { status: { state: string; exitCode: number; reason: string; startedAt: string } }
interface Stats { stats: { memory: { workingSetBytes: { value: string } }; cpu: { usageCoreNanoSeconds: { value: string } } }[] }

interface Pod { readonly id: string; readonly file: string; readonly group: string }

async function startPod(crictl: Crictl, cri: CriServer, name: string): Promise<Pod> {
  const group = `${parent}/${name}`;
  const file = await crictl.file(`pod-${name}.json`, {
    metadata: { name, namespace: 'e2e', uid: `${name}-uid`, attempt: 0 }, hostname: name, log_directory: path.join(cri.dir, 'pod-logs', name), linux: { cgroup_parent: group },
  });
  return { id: (await crictl.run(['runp', file], slowly)).trim(), file, group };
}

async function startContainer(crictl: Crictl, pod: Pod, options: { readonly name: string; readonly script: string; readonly resources?: object }): Promise<string> {
  const { name, script, resources = {} } = options;
  const config = { metadata: { name, attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', script], log_path: `${name}.log`, linux: { resources } };
  const id = (await crictl.run(['create', pod.id, await crictl.file(`${name}.json`, config), pod.file], slowly)).trim();
  await crictl.run(['start', id], slowly);
  return id;
}

const status = async (crictl: Crictl, id: string): Promise<ContainerStatus['status']> => (await crictl.json<ContainerStatus>(['inspect', id], slowly)).status;
const exited = (crictl: Crictl, id: string): Promise<ContainerStatus['status']> =>
  eventually(`${id} has exited`, () => status(crictl, id), ({ state }) => state === 'CONTAINER_EXITED', patience);

/** What the kernel has in the group of a container. */
const fileOf = (pod: Pod, id: string, name: string): string => readFileSync(path.join('/sys/fs/cgroup', pod.group, id, name), 'utf8').trim();

async function podLife(crictl: Crictl, cri: CriServer): Promise<void> {
  const pod = await startPod(crictl, cri, 'life');
  const resources = { cpu_shares: 512, cpu_quota: 50_000, cpu_period: 100_000, memory_limit_in_bytes: 64 << 20 };
  const script = 'trap "echo bye; exit 7" TERM; echo hello; while true; do sleep 0.2; done';
  const id = await startContainer(crictl, pod, { name: 'life', script, resources });
  assert.equal(fileOf(pod, id, 'memory.max'), String(64 << 20));
  assert.equal(fileOf(pod, id, 'cpu.max'), '50000 100000');
  assert.match(fileOf(pod, id, 'cpu.weight'), /^(20|59)$/, 'the older or the newer conversion of 512 shares');
  assert.match(fileOf(pod, id, 'cgroup.events'), /populated 1/);
  await eventually('the log says hello', () => crictl.output(['logs', id], slowly), ({ stdout }) => stdout.includes('hello'), patience);
  assert.equal((await crictl.run(['exec', '-s', '--timeout', '200', id, 'hostname'], slowly)).trim(), 'life');
  assert.equal((await crictl.run(['exec', '-s', '--timeout', '200', id, 'cat', '/proc/self/cgroup'], slowly)).trim(), '0::/', 'a container sees its own group as the root');
  const { stats } = await crictl.json<Stats>(['stats', '--id', id], slowly);
  assert.ok(Number(stats[0]?.memory.workingSetBytes.value) > 0 && Number(stats[0]?.cpu.usageCoreNanoSeconds.value) > 0);
  await checkMetrics(crictl);

  const before = await status(crictl, id);
  await cri.kill();
  assert.match(fileOf(pod, id, 'cgroup.events'), /populated 1/, 'the daemon was killed, the container was not');
  await cri.start();
  assert.deepEqual(await status(crictl, id), before);

  await crictl.run(['stop', '--timeout', '100', id], slowly);
  const after = await status(crictl, id);
  assert.deepEqual([after.state, after.exitCode], ['CONTAINER_EXITED', 7]);
  await crictl.run(['rm', id], slowly);
  assert.ok(!existsSync(path.join('/sys/fs/cgroup', pod.group, id)));
  await crictl.run(['stopp', pod.id], slowly);
  await crictl.run(['rmp', pod.id], slowly);
}

/** Every metric that does not depend on a disk at work is there, and what the kernel writes in other words than v1's is understood. */
async function checkMetrics(crictl: Crictl): Promise<void> {
  interface Metric { name: string; value: { value: string } }
  const { podMetrics } = await crictl.json<{ podMetrics: { containerMetrics: { metrics: Metric[] }[] }[] }>(['metricsp'], slowly);
  const metrics = podMetrics.flatMap(({ containerMetrics }) => containerMetrics.flatMap((each) => each.metrics));
  const value = (name: string): number => Number(metrics.find((each) => each.name === name)?.value.value ?? Number.NaN);
  for (const name of ['container_memory_usage_bytes', 'container_memory_kernel_usage', 'container_memory_max_usage_bytes', 'container_cpu_cfs_periods_total', 'container_processes', 'container_threads']) {
    assert.ok(value(name) > 0, `${name} is ${value(name)}`);
  }
  assert.ok(value('container_memory_max_usage_bytes') >= value('container_memory_usage_bytes'));
  assert.deepEqual([value('container_memory_failcnt'), value('container_oom_events_total'), value('container_spec_memory_limit_bytes')], [0, 0, 64 << 20]);
}

async function outOfMemory(crictl: Crictl, cri: CriServer): Promise<void> {
  const pod = await startPod(crictl, cri, 'memory');
  const resources = { memory_limit_in_bytes: 12 << 20, memory_swap_limit_in_bytes: 12 << 20 };
  const hungry = await startContainer(crictl, pod, { name: 'hungry', script: 'exec dd if=/dev/zero of=/dev/null bs=100M count=1', resources });
  const ended = await exited(crictl, hungry);
  assert.deepEqual([ended.exitCode, ended.reason], [137, 'OOMKilled']);
  const killed = await startContainer(crictl, pod, { name: 'killed', script: 'kill -9 $$', resources });
  const other = await exited(crictl, killed);
  assert.deepEqual([other.exitCode, other.reason], [137, 'Error'], 'the same exit code without the kernel\'s OOM killer');
  await crictl.run(['rmp', '-f', pod.id], slowly);
}

async function withRuntime(runtime: 'crun' | 'runc', body: (crictl: Crictl, cri: CriServer) => Promise<void>): Promise<void> {
  const onNode = async (): Promise<void> => {
    await using registry = await testRegistry();
    await using cri = await startNodelet({ mode: 'cri', runtime, writeHosts: registry.writeHosts });
    await using crictl = await crictlFor(cri.socket);
    await body(crictl, cri);
  };
  await nothingLeft(async () => {
    await onNode();
    removeEmptyFolders(`/sys/fs/cgroup${parent}`); // whoever names a parent group removes it
  }, { withinMs: 60_000, ignore: [/^file \/var\//] }); // /var is the host's, where others are at work
}

if (isCgroup2) {
  for (const runtime of ['crun', 'runc'] as const) {
    const need = needs('root', 'bundle', 'crictl', 'conmon', runtime);
    // One node for both: in user-mode-linux half a minute is spent before the first pod.
    test(`pods live, outlive the daemon, are OOMKilled over their memory limit, and leave nothing behind, with ${runtime}`, need, () => withRuntime(runtime, async (crictl, cri) => {
      await crictl.run(['pull', busyboxImage], slowly);
      await podLife(crictl, cri);
      await outOfMemory(crictl, cri);
    }));
  }
}
