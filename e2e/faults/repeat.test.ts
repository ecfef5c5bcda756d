/** A kubelet whose deadline passes repeats its request: it joins the work that is going on, and never hears that a name is reserved. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ServiceError, status as Code } from '@grpc/grpc-js';
import { ContainerState, PodSandboxState } from '#cri-api';
import { containerConfig, idle, podConfig } from './cri.ts';
import { podsAreGone, what, withNode } from './node.ts';

/** Repeats until it succeeds; only a passed deadline may be the answer until then. How often it passed, and the result. */
async function untilAnswered<T>(request: () => Promise<T>): Promise<{ passed: number; result: T }> {
  for (let passed = 0; ; passed++) {
    try {
      return { passed, result: await request() };
    } catch (error) {
      assert.equal((error as ServiceError).code, Code.DEADLINE_EXCEEDED, (error as ServiceError).details);
    }
  }
}

const slow = 'sleep 3';
const soon = { deadlineMs: 1000 };

test('requests that are repeated after their deadline give one sandbox, one container, one start and one stop', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    const config = podConfig('slow', node.place);
    await doubles.bridge.fault('ADD', 'before', slow);
    const run = await untilAnswered(() => cri.runPod(config, soon));
    assert.ok(run.passed > 0);
    assert.deepEqual(await cri.pods(), [run.result]);
    assert.equal((await doubles.bridge.calls()).filter((verb) => verb === 'ADD').length, 1);
    const pod = run.result;

    await doubles.runc.fault('create', 'before', slow);
    const create = await untilAnswered(() => cri.create(pod, config, containerConfig('c', idle), soon));
    assert.ok(create.passed > 0);
    assert.deepEqual((await cri.containers()).map(({ id }) => id), [create.result]);

    await doubles.runc.fault('start', 'before', slow);
    const start = await untilAnswered(() => cri.start(create.result, soon));
    assert.ok(start.passed > 0);
    assert.equal((await cri.status(create.result)).state, ContainerState.CONTAINER_RUNNING);
    assert.equal((await doubles.runc.calls()).filter((verb) => verb === 'start').length, 1);

    await doubles.bridge.fault('DEL', 'before', slow);
    const stop = await untilAnswered(() => cri.stopPod(pod, soon));
    assert.ok(stop.passed > 0);
    assert.equal(await cri.podState(pod), PodSandboxState.SANDBOX_NOTREADY);
    assert.equal((await doubles.bridge.calls()).filter((verb) => verb === 'DEL').length, 1, 'a DEL is not given up with the caller');
    await untilAnswered(() => cri.removePod(pod, soon));
    assert.deepEqual(await cri.pods(), []);
    await podsAreGone(node);
  }));

test('a pod that is stopped or removed while a container is being made in it keeps nothing of that container', what, () =>
  withNode(async (node) => {
    const { cri, doubles } = node;
    for (const end of ['stopPod', 'removePod'] as const) {
      const config = podConfig(`closing-${end.toLowerCase()}`, node.place);
      const pod = await cri.runPod(config);
      await doubles.runc.fault('create', 'before', slow);
      const creating = assert.rejects(cri.create(pod, config, containerConfig('late', idle)), { code: Code.FAILED_PRECONDITION });
      while (!(await doubles.runc.calls()).includes('create')) await new Promise((resolve) => void setTimeout(resolve, 20));
      await cri[end](pod);
      await creating;
      assert.deepEqual(await cri.containers(), []);
      await cri.removePod(pod);
      await doubles.runc.mend();
      await podsAreGone(node);
    }
  }));
