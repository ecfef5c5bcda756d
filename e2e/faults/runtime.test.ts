/** An OCI runtime that hangs, refuses, talks too much, dies in the middle or is not there; a monitor that dies: requests end, with a reason, and leave nothing. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { test } from 'node:test';
import { type ServiceError, status as Code } from '@grpc/grpc-js';
import { ContainerState, PodSandboxState } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { containerConfig, idle, podConfig } from './cri.ts';
import { faults } from './doubles/double.ts';
import { leftOfPods, type Node, podsAreGone, runningPod, what, withNode } from './node.ts';

const failsWith = (pattern: RegExp, code?: Code) => (error: ServiceError): true => {
  assert.match(error.details, pattern);
  assert.ok(error.details.length < 8192, `a message of ${error.details.length} characters`);
  if (code !== undefined) assert.equal(error.code, code, error.details);
  return true;
};

/** The real runtime, killed when it has made the container's state directory. */
const diesInTheMiddle = [
  '"$real" "$@" & started=$!',
  'while [ $# -gt 0 ]; do case $1 in --root) root=$2;; esac; id=$1; shift; done',
  'until [ -e "$root/$id" ]; do kill -0 $started 2>/dev/null || break; done; kill -9 $started; exit 137',
].join('\n');

/** Each: how `create` goes wrong, and what the caller is told. */
const creations = [
  { name: 'hangs', snippet: faults.hang, told: /create/ },
  { name: 'refuses', snippet: faults.refuse, told: /runc create: the double refuses/ },
  { name: 'prints a megabyte and refuses', snippet: `${faults.megabyteOnStderr}; exit 1`, told: /create/ },
  { name: 'dies in the middle', snippet: diesInTheMiddle, told: /create/ },
  { name: 'is killed', snippet: 'kill -9 $$', told: /create/ },
] as const;

test('a runtime that fails at create leaves no container, and the name can be used again', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    const config = podConfig('create', node.place);
    const pod = await cri.runPod(config);
    const before = leftOfPods(node).length;
    for (const { name, snippet, told } of creations) {
      await doubles.runc.fault('create', 'before', snippet);
      await assert.rejects(cri.create(pod, config, containerConfig('c', idle)), failsWith(told), name);
      assert.deepEqual(await cri.containers(), [], name);
      await eventually(`${name}: nothing of the container is left`, () => leftOfPods(node), (left) => left.length === before, { withinMs: 20_000 });
      await doubles.runc.mend();
    }
    await rename(doubles.runc.program, `${doubles.runc.program}.away`);
    await assert.rejects(cri.create(pod, config, containerConfig('c', idle)), failsWith(/create/));
    await rename(`${doubles.runc.program}.away`, doubles.runc.program);
    const id = await cri.create(pod, config, containerConfig('c', idle));
    await cri.start(id);
    await cri.removePod(pod);
    await podsAreGone(node);
  }, { config: { runtimeTimeout: '2s' } }));

test('a runtime that fails at the pod\'s init leaves no sandbox', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    for (const { name, snippet } of creations) {
      await doubles.runc.fault('run', 'before', snippet);
      await assert.rejects(cri.runPod(podConfig('init', node.place, true)), failsWith(/runc run: /), name);
      assert.deepEqual(await cri.pods(), [], name);
      await podsAreGone(node);
      await doubles.runc.mend();
    }
    const pod = await cri.runPod(podConfig('init', node.place, true));
    for (const verb of ['delete', 'kill', 'state']) await doubles.runc.fault(verb, 'before', faults.hang);
    await cri.stopPod(pod);
    await cri.removePod(pod);
    await podsAreGone(node);
  }, { config: { runtimeTimeout: '2s' } }));

test('a runtime that fails at start leaves an exited container that says why', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    const config = podConfig('start', node.place);
    const pod = await cri.runPod(config);
    for (const [name, snippet, told] of [['hangs', faults.hang, /start/], ['refuses', faults.refuse, /the double refuses/], ['talks', `${faults.megabyteOnStderr}; exit 1`, /start/]] as const) {
      const id = await cri.create(pod, config, containerConfig(name, idle));
      await doubles.runc.fault('start', 'before', snippet);
      await assert.rejects(cri.start(id), failsWith(told), name);
      await doubles.runc.mend();
      const { state, reason, exitCode, message } = await cri.status(id);
      assert.deepEqual([state, reason, exitCode], [ContainerState.CONTAINER_EXITED, 'StartError', 128], name);
      assert.match(message, told);
    }
    await cri.removePod(pod);
    await podsAreGone(node);
  }, { config: { runtimeTimeout: '2s' } }));

test('a runtime that fails at exec fails the exec and nothing else', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    const { pod, container } = await runningPod(node, 'exec');
    const running = leftOfPods(node).length;
    await doubles.runc.fault('exec', 'before', faults.hang);
    await assert.rejects(cri.exec(container, ['true'], { timeoutSeconds: 1 }), failsWith(/./, Code.DEADLINE_EXCEEDED));
    await doubles.runc.fault('exec', 'before', `${faults.megabyteOnStderr}; exit 1`);
    await assert.rejects(cri.exec(container, ['true']), failsWith(/exec in container/));
    await doubles.runc.fault('exec', 'before', 'kill -9 $$');
    await assert.rejects(cri.exec(container, ['true']));
    await doubles.runc.mend();
    assert.equal((await cri.exec(container, ['echo', 'well'])).stdout, 'well\n');
    assert.equal(leftOfPods(node).length, running);
    await cri.removePod(pod);
    await podsAreGone(node);
  }));

const monitorIsKilled = async ({ cri }: Node, container: string): Promise<void> => {
  process.kill((await cri.info(container)).monitor, 'SIGKILL');
};

test('a container whose monitor is killed is ended and reported, running or only created', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    const { pod, container } = await runningPod(node, 'orphan', 'while true; do sleep 1; done');
    const { pid } = await cri.info(container);
    await monitorIsKilled(node, container);
    const status = await eventually('it is exited', () => cri.status(container), ({ state }) => state === ContainerState.CONTAINER_EXITED);
    assert.equal(status.exitCode, 137);
    assert.match(status.message, /monitor/);
    await eventually('its process is gone', () => !existsSync(`/proc/${pid}`));
    const config = podConfig('orphan', node.place);
    const created = await cri.create(pod, config, containerConfig('created', idle));
    await monitorIsKilled(node, created);
    await eventually('it is exited', () => cri.status(created), ({ state }) => state === ContainerState.CONTAINER_EXITED);
    await assert.rejects(cri.start(created), { code: Code.FAILED_PRECONDITION });
    for (const [name, snippet] of [['at once', 'kill -9 $$'], ['refuses', faults.refuse], ['ends with 0', 'exit 0'], ['ends with nonsense', 'echo "{]" >&3; exit 0']] as const) {
      await doubles.conmon.fault('monitor', 'before', snippet);
      await assert.rejects(cri.create(pod, config, containerConfig('never', idle)), failsWith(/create/), name);
      await doubles.conmon.mend();
    }
    // The monitor dies while its runtime is at work.
    await doubles.runc.fault('create', 'before', 'kill -9 $PPID; sleep 100000');
    await assert.rejects(cri.create(pod, config, containerConfig('never', idle)), failsWith(/create/));
    await doubles.runc.mend();
    assert.equal((await cri.containers()).length, 2);
    assert.equal(await cri.podState(pod), PodSandboxState.SANDBOX_READY);
    await cri.removePod(pod);
    await podsAreGone(node);
  }));
