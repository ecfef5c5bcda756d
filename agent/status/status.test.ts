/** What is said of a pod: container states, phase, conditions, the patch. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import type { ObservedPod } from '../cri/observed.ts';
import type { ContainerStatus, Pod, PodStatus } from '../kube/types.ts';
import { container, instance, observedOf, podOf, sandboxOf } from '../pod/observed.fake.ts';
import { endedStatus, podStatus, type PodStatusInputs } from './pod-status.ts';
import { withTerminationMessages } from './termination-message.ts';
import { differsFrom, statusPatch } from './writer.ts';

const nowMs = Date.parse('2026-11-24T12:00:00Z');

function statusOf(pod: Pod, observed: ObservedPod, more: Partial<PodStatusInputs> = {}): PodStatus {
  return podStatus({
    pod, observed, notes: new Map(), runtimeName: 'rt', probes: { started: () => undefined, ready: () => undefined },
    previous: {}, hostIPs: ['192.168.0.1'], isEnding: false, nowMs, ...more,
  });
}

/** `c:running`, `c:CrashLoopBackOff`, `c:Error(1)`, with `/last` when there is a last state. */
function short({ name, state, lastState, restartCount, ready }: ContainerStatus): string {
  const ended = state?.terminated;
  const now = state?.running !== undefined ? 'running' : ended !== undefined ? `${ended.reason}(${ended.exitCode})` : (state?.waiting?.reason ?? 'waiting');
  const last = lastState?.terminated;
  return `${name}:${now}${last === undefined ? '' : `/${last.reason}(${last.exitCode})`} r${restartCount}${ready ? ' ready' : ''}`;
}

const withInit = podOf({ initContainers: [container('i')] });
const never = podOf({ restartPolicy: 'Never' });
const onFailure = podOf({ restartPolicy: 'OnFailure' });
const two = podOf({ restartPolicy: 'Never', containers: [container('a'), container('b')] });
const sidecar = podOf({ restartPolicy: 'Never', initContainers: [container('side', { restartPolicy: 'Always' })] });
const crash = new Map([['c', { reason: 'CrashLoopBackOff', message: 'back-off 10s …' }]]);
const pull = new Map([['c', { reason: 'ImagePullBackOff', message: 'Back-off pulling image "demo:1"' }]]);
const wasRunning: PodStatus = { containerStatuses: [{ name: 'c', image: 'demo:1', imageID: '', ready: true, restartCount: 2, state: { running: {} }, containerID: 'rt://old' }] };

const cases: [name: string, pod: Pod, observed: ObservedPod, more: Partial<PodStatusInputs>, phase: string, containers: string[]][] = [
  ['nothing yet', podOf(), observedOf([], []), {}, 'Pending', ['c:ContainerCreating r0']],
  ['waiting for init containers', withInit, observedOf([], []), {}, 'Pending', ['i:ContainerCreating r0', 'c:PodInitializing r0']],
  ['an init container runs', withInit, observedOf([instance('i', 'running')]), {}, 'Pending', ['i:running r0', 'c:PodInitializing r0']],
  ['init done, app running', withInit, observedOf([instance('i', 'exited'), instance('c', 'running', { at: 11 })]), {}, 'Running', ['i:Completed(0) r0 ready', 'c:running r0 ready']],
  ['the record of a done init container is gone', withInit, observedOf([instance('c', 'running')]), {}, 'Running', ['i:Completed(0) r0 ready', 'c:running r0 ready']],
  ['an init container failed in a Never pod', podOf({ initContainers: [container('i')], restartPolicy: 'Never' }), observedOf([instance('i', 'exited', { exitCode: 1 })]), {}, 'Failed', ['i:Error(1) r0', 'c:PodInitializing r0']],
  ['an init container failed and will be tried again', withInit, observedOf([instance('i', 'exited', { exitCode: 1 })]), {}, 'Pending', ['i:Error(1) r0', 'c:PodInitializing r0']],
  ['the image cannot be pulled', podOf(), observedOf(), { notes: pull }, 'Pending', ['c:ImagePullBackOff r0']],
  ['ended, and restarts soon', podOf(), observedOf([instance('c', 'exited', { exitCode: 1 })]), {}, 'Running', ['c:Error(1) r0']],
  ['a crash loop shows the last run', podOf(), observedOf([instance('c', 'exited', { exitCode: 1, restartCount: 3 })]), { notes: crash }, 'Running', ['c:CrashLoopBackOff/Error(1) r3']],
  ['restarted: the run before is the last state', podOf(), observedOf([instance('c', 'exited', { exitCode: 1 }), instance('c', 'running', { at: 20, restartCount: 1 })]), {}, 'Running', ['c:running/Error(1) r1 ready']],
  ['Never, exit 0', never, observedOf([instance('c', 'exited')]), {}, 'Succeeded', ['c:Completed(0) r0']],
  ['Never, exit 1', never, observedOf([instance('c', 'exited', { exitCode: 1 })]), {}, 'Failed', ['c:Error(1) r0']],
  ['OnFailure, exit 1', onFailure, observedOf([instance('c', 'exited', { exitCode: 1 })]), {}, 'Running', ['c:Error(1) r0']],
  ['killed for memory', never, observedOf([instance('c', 'exited', { exitCode: 137, reason: 'OOMKilled' })]), {}, 'Failed', ['c:OOMKilled(137) r0']],
  ['one of two has ended', two, observedOf([instance('a', 'exited'), instance('b', 'running')]), {}, 'Running', ['a:Completed(0) r0', 'b:running r0 ready']],
  ['both ended, one badly', two, observedOf([instance('a', 'exited'), instance('b', 'exited', { exitCode: 2 })]), {}, 'Failed', ['a:Completed(0) r0', 'b:Error(2) r0']],
  ['an Always pod that is ended by somebody', podOf(), observedOf([instance('c', 'exited', { exitCode: 137 })]), { isEnding: true }, 'Failed', ['c:Error(137) r0']],
  ['a sidecar does not keep the pod running', sidecar, observedOf([instance('side', 'exited', { exitCode: 137 }), instance('c', 'exited')]), {}, 'Succeeded', ['side:Error(137) r0', 'c:Completed(0) r0']],
  ['a terminal phase never changes back', podOf(), observedOf([instance('c', 'running')]), { previous: { phase: 'Failed', reason: 'Evicted' } }, 'Failed', ['c:running r0 ready']],
  ['the runtime lost a running container', podOf(), observedOf(), { previous: wasRunning }, 'Running', ['c:ContainerCreating/ContainerStatusUnknown(137) r3']],
  ['a container that was made and not started', podOf(), observedOf([instance('c', 'created')]), {}, 'Pending', ['c:waiting r0']],
];

for (const [name, pod, observed, more, phase, containers] of cases) {
  test(`status: ${name}`, () => {
    const status = statusOf(pod, observed, more);
    assert.deepEqual([...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])].map(short), containers);
    assert.equal(status.phase, phase);
  });
}

const condition = (status: PodStatus, type: string): string => {
  const found = status.conditions?.find((each) => each.type === type);
  return [found?.status, found?.reason, found?.message].filter((part) => part !== undefined).join(' ');
};

const conditions: [name: string, pod: Pod, observed: ObservedPod, want: Record<string, string>][] = [
  ['no sandbox', podOf(), observedOf([], []), { PodReadyToStartContainers: 'False PodSandboxNotReady No pod sandbox found', Ready: 'False ContainersNotReady containers with unready status: [c]', Initialized: 'True', PodScheduled: 'True' }],
  ['a dead sandbox', podOf(), observedOf([], [sandboxOf({ ready: false })]), { PodReadyToStartContainers: 'False PodSandboxNotReady Pod sandbox is not ready' }],
  ['running', podOf(), observedOf([instance('c', 'running')]), { PodReadyToStartContainers: 'True', Ready: 'True', ContainersReady: 'True', Initialized: 'True' }],
  ['initialising', withInit, observedOf([instance('i', 'running')]), { Initialized: 'False ContainersNotInitialized containers with incomplete status: [i]' }],
  ['succeeded', never, observedOf([instance('c', 'exited')]), { Ready: 'False PodCompleted', ContainersReady: 'False PodCompleted', Initialized: 'True PodCompleted' }],
  ['failed', never, observedOf([instance('c', 'exited', { exitCode: 1 })]), { Ready: 'False PodFailed' }],
  ['a readiness gate nobody has set', podOf({ readinessGates: [{ conditionType: 'example.com/x' }] }), observedOf([instance('c', 'running')]), { ContainersReady: 'True', Ready: 'False ReadinessGatesNotReady corresponding condition of pod readiness gate "example.com/x" does not exist.' }],
];
for (const [name, pod, observed, want] of conditions) {
  test(`conditions: ${name}`, () => {
    const status = statusOf(pod, observed);
    for (const [type, text] of Object.entries(want)) assert.equal(condition(status, type), text, type);
  });
}

test('transition times move only when the status does, and foreign conditions are kept', () => {
  const foreign = { type: 'example.com/x', status: 'True' };
  const pod: Pod = { ...podOf({}, { generation: 7 }), status: { conditions: [foreign] } };
  const first = statusOf(pod, observedOf([], []));
  const later = statusOf(pod, observedOf([instance('c', 'running')]), { previous: first, nowMs: nowMs + 60_000 });
  const timeOf = (status: PodStatus, type: string): string | undefined => status.conditions?.find((each) => each.type === type)?.lastTransitionTime;
  assert.equal(timeOf(later, 'Ready'), '2026-11-24T12:01:00Z');
  assert.equal(timeOf(later, 'Initialized'), '2026-11-24T12:00:00Z');
  assert.deepEqual(later.conditions?.[0], foreign);
  assert.equal(later.observedGeneration, 7);
  assert.equal(later.startTime, first.startTime);
});

test('addresses stay when the sandbox is gone; host network pods have the node’s', () => {
  const before = statusOf(podOf(), observedOf([instance('c', 'running')]));
  assert.deepEqual(before.podIPs, [{ ip: '10.0.0.1' }]);
  assert.equal(statusOf(podOf(), observedOf([], [sandboxOf({ ready: false })]), { previous: before }).podIP, '10.0.0.1');
  assert.equal(statusOf(podOf({ hostNetwork: true }), observedOf([], [])).podIP, '192.168.0.1');
});

test('a pod deleted before anything started has Failed', () => {
  const ended = endedStatus(statusOf(podOf(), observedOf([], []), { isEnding: true }), podOf());
  assert.equal(ended.phase, 'Failed');
  assert.deepEqual(ended.containerStatuses?.[0]?.state?.terminated, { exitCode: 137, reason: 'ContainerStatusUnknown', message: 'The container could not be located when the pod was terminated' });
});

test('the patch names the pod, replaces addresses and takes back reasons', () => {
  const status: PodStatus = { phase: 'Running', podIPs: [{ ip: '10.0.0.2' }], conditions: [{ type: 'Ready', status: 'True' }] };
  assert.deepEqual(statusPatch(podOf(), status), {
    metadata: { uid: 'u1' },
    status: {
      phase: 'Running', reason: null, message: null, podIPs: [{ ip: '10.0.0.2' }, { $patch: 'replace' }],
      conditions: [{ type: 'Ready', status: 'True', reason: null, message: null }],
    },
  });
});

test('what the API server adds to a status is no difference; what it lacks is', () => {
  const ours = statusOf(podOf(), observedOf([instance('c', 'running')]));
  const theirs = structuredClone(ours);
  theirs.conditions?.push({ type: 'example.com/x', status: 'True' });
  for (const each of theirs.conditions ?? []) Object.assign(each, { lastProbeTime: null });
  assert.equal(differsFrom(theirs, ours), false);
  assert.equal(differsFrom({ ...theirs, reason: 'Evicted' }, ours), true);
  assert.equal(differsFrom({ ...theirs, phase: 'Pending' }, ours), true);
});

test('what an ended container left to say: its file, else the end of its log, after the runtime’s own words', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'message-'));
  t.after(() => rm(dir, { recursive: true }));
  await writeFile(join(dir, 'file'), 'from the file');
  await writeFile(join(dir, 'log'), '2026-11-24T12:00:00.1Z stdout F one\n2026-11-24T12:00:00.2Z stderr P tw\n2026-11-24T12:00:00.3Z stderr F o\n');
  const ended = instance('c', 'exited', { exitCode: 1 });
  const messageOf = async (more: { policy: string; file: string; message?: string }): Promise<string | undefined> => {
    const notes = { ...ended.notes, terminationMessagePath: '/m', terminationMessagePolicy: more.policy };
    const mounts = [{ containerPath: '/m', hostPath: join(dir, more.file) }];
    const seen = { ...ended, notes, mounts, logPath: join(dir, 'log'), message: more.message ?? '' };
    return (await withTerminationMessages(quietCtx(), observedOf([seen]))).containers[0]?.message;
  };
  assert.equal(await messageOf({ policy: 'File', file: 'file' }), 'from the file');
  assert.equal(await messageOf({ policy: 'File', file: 'none' }), '');
  assert.equal(await messageOf({ policy: 'FallbackToLogsOnError', file: 'file', message: 'oci' }), 'oci: from the file');
  assert.equal(await messageOf({ policy: 'FallbackToLogsOnError', file: 'none' }), 'one\ntwo\n');
});
