/** Containers with the real conmon and OCI runtime: what they do, what is told of them, and that nothing of them stays. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerConfig, LinuxContainerConfig, NamespaceMode, SecurityProfile_ProfileType } from '#cri-api';
import { readMounts } from '#host/mountinfo.ts';
import { isAlive, signalProcess, whenGone } from '#host/process.ts';
import { createContainer } from './create.ts';
import { footprint, missing, shell, testPod } from './pod.fake.ts';
import { reopenContainerLog } from './reopen-log.ts';
import { applyResources } from './update-resources.ts';

const skip = await missing();
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');

test('a container runs, logs, answers exec, stops with its own exit code, and leaves nothing', { skip }, async () => {
  const before = await footprint();
  {
    await using pod = await testPod();
    const id = await pod.run(shell('trap "echo bye; exit 5" TERM; echo out; echo err >&2; while :; do sleep 0.05; done'));
    const exec = await pod.exec(id, ['/bin/sh', '-c', 'hostname; echo $FROM_IMAGE; cat /etc/hosts; echo oops >&2; exit 3']);
    assert.deepEqual([text(exec.stdout), text(exec.stderr), exec.exitCode], ['the-pod\nyes\nhosts of the pod\n', 'oops\n', 3]);
    await pod.stop(id, 20);
    const { exitCode, reason } = await pod.ended(id);
    assert.deepEqual([exitCode, reason], [5, 'Error']);
    const log = await readFile(pod.containers.get(id).logPath ?? '', 'utf8');
    assert.match(log, /^\S+ stdout F out$/m);
    assert.match(log, /^\S+ stderr F err$/m);
    assert.match(log, /^\S+ stdout F bye$/m);
    await pod.remove(id);
    assert.equal(existsSync(pod.paths.containerDir(id)), false);
    await pod.remove(id);
  }
  assert.deepEqual(await footprint(), before);
});

test('exit codes: 0 is Completed, another is Error, a signal is 128 and its number', { skip }, async () => {
  await using pod = await testPod();
  const outcomes = await Promise.all(
    ['exit 0', 'exit 7', 'kill -USR1 1; sleep 1; exit 9', 'sh -c "kill -SEGV \\$\\$"; exit $?'].map(async (script) => pod.ended(await pod.run(shell(script)))),
  );
  assert.deepEqual(outcomes.map(({ exitCode, reason }) => [exitCode, reason]), [[0, 'Completed'], [7, 'Error'], [9, 'Error'], [139, 'Error']]);
});

test('a container over its memory limit is OOMKilled', { skip }, async () => {
  await using pod = await testPod();
  const linux = LinuxContainerConfig.fromPartial({ resources: { memoryLimitInBytes: 15_000_000n }, securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER } } });
  const id = await pod.run({ command: ['/bin/dd', 'if=/dev/zero', 'of=/dev/null', 'bs=40M', 'count=2'], linux });
  const { exitCode, reason } = await pod.ended(id);
  assert.deepEqual([exitCode, reason], [137, 'OOMKilled']);
});

test('a program that does not exist fails the creation with the words of the runtime and leaves nothing', { skip }, async () => {
  await using pod = await testPod();
  await assert.rejects(pod.create({ command: ['/bin/nope'] }), /nope.*no such file|not found/i);
  assert.deepEqual(pod.containers.list(), []);
  assert.deepEqual((await pod.cgroups.children(pod.cgroupParent)), []);
});

test('a process that ignores the stop signal is killed when its grace is over, and a later, shorter grace wins', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('trap "" TERM; touch /ready; while :; do sleep 0.05; done'));
  await pod.exec(id, ['/bin/sh', '-c', 'until [ -e /ready ]; do sleep 0.02; done']);
  const patient = pod.stop(id, 600);
  await pod.stop(id, 1);
  await patient;
  assert.equal((await pod.ended(id)).exitCode, 137);
});

test('exec that takes too long is killed with its descendants before the time-out is told', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  await assert.rejects(pod.exec(id, ['/bin/sh', '-c', 'sleep 4321 & sh -c "sleep 4322; true"; true'], 1), { kind: 'timeout' });
  const left = text((await pod.exec(id, ['/bin/ps'])).stdout);
  assert.doesNotMatch(left, /432/);
});

test('exec does not wait for a grandchild that keeps stdout open', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  const startMs = performance.now();
  const { stdout, exitCode } = await pod.exec(id, ['/bin/sh', '-c', 'sleep 30 & echo x; exit 4']);
  assert.deepEqual([text(stdout), exitCode], ['x\n', 4]);
  assert.ok(performance.now() - startMs < 25_000);
});

test('exec of a program that does not exist says so', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  await assert.rejects(pod.exec(id, ['nope']), /nope.*(not found|no such file)/i);
});

test('exec output beyond the limit is dropped, not an error', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  const { stdout, exitCode } = await pod.exec(id, ['/bin/dd', 'if=/dev/zero', 'bs=1M', 'count=20']);
  assert.equal(exitCode, 0);
  assert.equal(stdout.length, 16 * 1024 * 1024 - 64 * 1024);
});

test('a container whose monitor was killed is killed and told as unknown', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  const { monitor, process } = pod.containers.get(id);
  signalProcess(monitor!, 'SIGKILL');
  assert.equal((await pod.ended(id)).reason, 'ContainerStatusUnknown');
  assert.equal(isAlive(process!), false);
});

test('processes that outlive the first one in a shared pid namespace die with it', { skip }, async () => {
  await using pod = await testPod();
  const linux = LinuxContainerConfig.fromPartial({ securityContext: { namespaceOptions: { pid: NamespaceMode.NODE } } });
  const id = await pod.run({ ...shell('sleep 1000 & exit 0'), linux });
  const pids = await pod.cgroups.processes(pod.containers.get(id).cgroupPath);
  await pod.ended(id);
  await pod.remove(id);
  for (const pid of pids) assert.equal(existsSync(`/proc/${pid}/cmdline`) && (await readFile(`/proc/${pid}/cmdline`, 'utf8')).includes('sleep'), false);
});

test('a reopened log is a new file at the old place when the call returns', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('while :; do echo tick; sleep 0.05; done'));
  const path = pod.containers.get(id).logPath!;
  await rename(path, `${path}.1`);
  await reopenContainerLog(pod.ctx, pod, id);
  assert.equal(existsSync(path), true);
});

test('limits are changed while it runs and are told afterwards', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.run(shell('sleep 1000'));
  const resources = { ...LinuxContainerConfig.fromPartial({ resources: { memoryLimitInBytes: 50_003_968n, cpuShares: 200n } }).resources! };
  await applyResources(pod.ctx, pod, { id, resources });
  assert.equal((await pod.cgroups.usage(pod.containers.get(id).cgroupPath)).memory?.limitBytes, 50_003_968);
  assert.equal(pod.containers.get(id).resources?.cpuShares, 200n);
});

test('user, groups, working directory and read-only root are as asked', { skip }, async () => {
  await using pod = await testPod();
  const linux = LinuxContainerConfig.fromPartial({
    securityContext: { runAsUser: { value: 1000n }, supplementalGroups: [1234n], readonlyRootfs: true, noNewPrivs: true, namespaceOptions: { pid: NamespaceMode.CONTAINER } },
  });
  const id = await pod.run({ ...shell('id; pwd; touch /x'), linux, workingDir: '/tmp' });
  await pod.ended(id);
  const log = await readFile(pod.containers.get(id).logPath!, 'utf8');
  assert.match(log, /uid=1000\(alice\) gid=1001\(alice\) groups=1001\(alice\),1002\(extra\),1234/);
  assert.match(log, / F \/tmp$/m);
  assert.match(log, /touch: \/x: Read-only file system/);
});

test('a creation that was cut short is torn down from its record alone, twice', { skip }, async () => {
  await using pod = await testPod();
  const id = await pod.create(shell('sleep 1000'));
  const { process, monitor } = pod.containers.get(id);
  // As if the daemon had been killed before it noted the pids.
  const cut = { ...pod.containers.get(id), process: undefined, monitor: undefined, state: { name: 'making', createdAtNs: 1n } as const };
  const deps = { ...pod.teardownDeps, containers: { find: () => cut } };
  const { teardownContainer } = await import('./teardown.ts');
  await teardownContainer(pod.ctx, deps, id);
  await teardownContainer(pod.ctx, deps, id);
  await whenGone(pod.ctx, monitor!);
  assert.deepEqual([isAlive(process!), isAlive(monitor!)], [false, false]);
  assert.equal(existsSync(join(pod.paths.ociRootDir(pod.runtime.name), id)), false);
});

test('a creation whose log directory cannot be made leaves no record, so that it can be tried again', { skip }, async () => {
  await using pod = await testPod();
  await writeFile(join(pod.logDir, 'file'), '');
  const config = { ...shell('sleep 1000'), metadata: { name: 'main', attempt: 0 } };
  await assert.rejects(pod.create({ ...config, logPath: 'file/0.log' }));
  const id = await pod.create({ ...config, logPath: 'main/0.log' });
  assert.deepEqual(pod.containers.list().map((record) => record.id), [id]);
});

test('what is still being mounted when a creation fails is mounted to its end, and then undone', { skip }, async () => {
  await using pod = await testPod();
  let roots = 0;
  const deps: typeof pod.createDeps = {
    ...pod.createDeps,
    prepareRootfs: async (ctx, request) => {
      await sleep(300);
      roots += 1;
      return pod.createDeps.prepareRootfs(ctx, request);
    },
  };
  const seccomp = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: join(pod.dir, 'absent.json') };
  const config = ContainerConfig.fromPartial({ metadata: { name: 'main' }, image: { image: 'busybox' }, linux: { securityContext: { seccomp } } });
  await assert.rejects(createContainer(pod.ctx, deps, { podSandboxId: pod.sandboxId, config }), { kind: 'invalid', message: /absent\.json/ });
  assert.equal(roots, 1);
  assert.deepEqual((await readMounts()).filter(({ mountPoint }) => mountPoint.startsWith(pod.paths.containersDir)), []);
});
