/** What is done for a pod, for each situation it can be in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ObservedPod } from '../cri/observed.ts';
import type { Pod } from '../kube/types.ts';
import { CrashBackOff } from './crash-back-off.ts';
import { container, instance, observedOf, podOf, sandboxOf } from './observed.fake.ts';
import { backOffKey, planPod, type Step } from './plan.ts';

/** A step in short: `start c`, `kill c`, `make-sandbox 1`. */
function short(step: Step): string {
  if (step.do === 'make-sandbox') return `make-sandbox ${step.attempt}`;
  if (step.do === 'kill-pod') return step.announce ? 'kill-pod!' : 'kill-pod';
  return `${step.do} ${step.container}`;
}

const plan = (pod: Pod, observed: ObservedPod, unhealthy: [string, string][] = []): string[] =>
  planPod({ pod, observed, backOff: new CrashBackOff(), nowMs: 0, unhealthy: new Map(unhealthy), startedByProbe: () => undefined }).steps.map(short);

const two = podOf({ containers: [container('a'), container('b')] });
const withInit = podOf({ initContainers: [container('i'), container('j')] });
const never = podOf({ restartPolicy: 'Never' });
const onFailure = podOf({ restartPolicy: 'OnFailure' });
const sidecar = podOf({ initContainers: [container('i'), container('side', { restartPolicy: 'Always' }), container('j')], restartPolicy: 'Never' });
const gone = observedOf([], []);
const dead = sandboxOf({ ready: false });

const cases: [name: string, pod: Pod, observed: ObservedPod, want: string[]][] = [
  ['a new pod gets a sandbox and its containers in order', two, gone, ['make-sandbox 0', 'start a', 'start b']],
  ['a new pod with init containers starts the first of them only', withInit, gone, ['make-sandbox 0', 'start i']],
  ['a running pod needs nothing', two, observedOf([instance('a', 'running'), instance('b', 'running')]), []],
  ['the container that is missing is started', two, observedOf([instance('a', 'running')]), ['start b']],
  ['an ended container of an Always pod starts again', podOf(), observedOf([instance('c', 'exited')]), ['start c']],
  ['OnFailure: exit 0 is the end of the pod', onFailure, observedOf([instance('c', 'exited')]), ['kill-pod']],
  ['OnFailure: another exit code starts again', onFailure, observedOf([instance('c', 'exited', { exitCode: 1 })]), ['start c']],
  ['Never: ended is ended', never, observedOf([instance('c', 'exited', { exitCode: 1 })]), ['kill-pod']],
  ['nothing is killed twice', never, observedOf([instance('c', 'exited')], [dead]), []],
  ['a container of its own policy starts again in a Never pod', podOf({ restartPolicy: 'Never', containers: [container('c', { restartPolicy: 'OnFailure' })] }), observedOf([instance('c', 'exited', { exitCode: 1 })]), ['start c']],
  ['an exit code that a rule names starts again in a Never pod', podOf({ restartPolicy: 'Never', containers: [container('c', { restartPolicy: 'Never', restartPolicyRules: [{ action: 'Restart', exitCodes: { operator: 'In', values: [42] } }] })] }), observedOf([instance('c', 'exited', { exitCode: 42 })]), ['start c']],
  ['a lost container is killed before it is started again', podOf(), observedOf([instance('c', 'unknown')]), ['kill c', 'start c']],
  ['a container that was made and never started is started anew', podOf(), observedOf([instance('c', 'created')]), ['start c']],
  ['another image in the spec: the running one is replaced', podOf({ containers: [container('c', { image: 'demo:2' })] }), observedOf([instance('c', 'running')]), ['kill c', 'start c']],
  ['a dead sandbox is replaced, and its pod with it', podOf(), observedOf([instance('c', 'exited')], [dead]), ['kill-pod!', 'make-sandbox 1', 'start c']],
  ['a sandbox without an address is replaced', podOf(), observedOf([instance('c', 'running')], [sandboxOf({ ips: [] })]), ['kill-pod!', 'make-sandbox 1', 'start c']],
  ['on the host network a sandbox needs no address', podOf({ hostNetwork: true }), observedOf([instance('c', 'running')], [sandboxOf({ ips: [], hostNetwork: true })]), []],
  ['two ready sandboxes are one too many', podOf(), observedOf([instance('c', 'running')], [sandboxOf({ id: 's1', attempt: 1 }), sandboxOf()]), ['kill-pod!', 'make-sandbox 2', 'start c']],
  ['a Never pod that lost its sandbox after it ran does not come back', never, observedOf([instance('c', 'exited')], [dead]), []],
  ['a Never pod whose first sandbox failed tries again', never, observedOf([], [dead]), ['kill-pod!', 'make-sandbox 1', 'start c']],
  ['OnFailure: what succeeded is not run again in a new sandbox', podOf({ restartPolicy: 'OnFailure', containers: [container('a'), container('b')] }), observedOf([instance('a', 'exited'), instance('b', 'exited', { exitCode: 1 })], [dead]), ['kill-pod!', 'make-sandbox 1', 'start b']],
  ['the next init container follows a complete one', withInit, observedOf([instance('i', 'exited')]), ['start j']],
  ['while an init container runs nothing else starts', withInit, observedOf([instance('i', 'running')]), []],
  ['app containers follow the last init container', withInit, observedOf([instance('i', 'exited'), instance('j', 'exited', { at: 11 })]), ['start c']],
  ['the last init container alone proves that the others are done', withInit, observedOf([instance('j', 'exited')]), ['start c']],
  ['a running app container proves that all init containers are done', withInit, observedOf([instance('c', 'running')]), []],
  ['a failed init container is tried again', withInit, observedOf([instance('i', 'exited', { exitCode: 1 })]), ['start i']],
  ['a failed init container ends a Never pod', podOf({ initContainers: [container('i')], restartPolicy: 'Never' }), observedOf([instance('i', 'exited', { exitCode: 1 })]), ['kill-pod']],
  ['a new sandbox runs init containers again', withInit, observedOf([instance('i', 'exited'), instance('j', 'exited'), instance('c', 'exited')], [dead]), ['kill-pod!', 'make-sandbox 1', 'start i']],
  ['init records of an earlier sandbox do not count', withInit, observedOf([instance('i', 'exited', { sandboxId: 'old' })]), ['start i']],
  ['a running sidecar lets the next init container start', sidecar, observedOf([instance('i', 'exited'), instance('side', 'running', { at: 11 })]), ['start j']],
  ['a sidecar starts again also in a Never pod', sidecar, observedOf([instance('i', 'exited'), instance('side', 'exited', { at: 11 }), instance('j', 'exited', { at: 12 }), instance('c', 'running', { at: 13 })]), ['start side']],
  ['when the app containers are done the sidecars go too', sidecar, observedOf([instance('side', 'running'), instance('j', 'exited', { at: 12 }), instance('c', 'exited', { at: 13 })]), ['kill-pod']],
  ['an ephemeral container is started once', podOf({ ephemeralContainers: [{ name: 'debug', image: 'demo:1' }] }), observedOf([instance('c', 'running')]), ['start debug']],
  ['and not again when it ended', podOf({ ephemeralContainers: [{ name: 'debug', image: 'demo:1' }] }), observedOf([instance('c', 'running'), instance('debug', 'exited')]), []],
  ['a pod that is being deleted starts nothing', podOf({}, { deletionTimestamp: '2026-01-01T00:00:00Z' }), observedOf([instance('c', 'exited')]), ['kill-pod']],
];

for (const [name, pod, observed, want] of cases) test(name, () => assert.deepEqual(plan(pod, observed), want));

test('a container that failed its liveness probe is killed and started again, with the kubelet’s words', () => {
  const observed = observedOf([instance('c', 'running')]);
  const inputs = { observed, backOff: new CrashBackOff(), nowMs: 0, unhealthy: new Map([['c-10', 'Container c failed liveness probe']]), startedByProbe: () => undefined };
  const [kill, start] = planPod({ pod: podOf(), ...inputs }).steps;
  assert.equal(kill?.why, 'Container c failed liveness probe, will be restarted');
  assert.equal(start?.do, 'start');
  assert.deepEqual(planPod({ pod: never, ...inputs }).steps.map(short), ['kill-pod'], 'a Never pod ends with it');
});

test('a crashing container waits, and the plan says for how long', () => {
  const pod = podOf();
  const backOff = new CrashBackOff();
  backOff.started(backOffKey(pod, container('c')), 9000, 10_000);
  const planned = planPod({ pod, observed: observedOf([instance('c', 'exited', { exitCode: 1, at: 10 })]), backOff, nowMs: 14_000, unhealthy: new Map(), startedByProbe: () => undefined });
  assert.deepEqual(planned, {
    steps: [{ do: 'hold', container: 'c', message: 'back-off 10s restarting failed container=c pod=p_ns(u1)', why: 'ended with exit code 1' }],
    comeBackInMs: 7000,
  });
});

test('back-off doubles from 10 s to the cap and starts again after a run of twice the cap', () => {
  const backOff = new CrashBackOff();
  const delays: (number | undefined)[] = [];
  let nowMs = 0;
  for (let crash = 0; crash < 7; crash++) {
    backOff.started('k', nowMs, nowMs);
    nowMs += 1000;
    delays.push(backOff.held('k', nowMs, nowMs)?.delayMs);
    nowMs += delays.at(-1) ?? 0;
  }
  assert.deepEqual(delays, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  assert.equal(backOff.held('k', nowMs + 600_001, nowMs + 600_001), undefined);
  backOff.started('k', nowMs + 600_001, nowMs + 600_001);
  assert.equal(backOff.held('k', nowMs + 600_002, nowMs + 600_002)?.delayMs, 10_000);
});

test('another image is not held back by the crashes of the one before', () => {
  const pod = podOf();
  assert.notEqual(backOffKey(pod, container('c')), backOffKey(pod, container('c', { image: 'demo:2' })));
});
