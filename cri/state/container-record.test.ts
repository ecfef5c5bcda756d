/** The state machine of a container: every state met by every event. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ContainerConfig } from '#cri-api';
import { type ContainerEvent, type ContainerRecord, type ContainerState, nextContainer } from './container-record.ts';
import { asContainerId, asSandboxId } from './ids.ts';

const process = { pid: 10, startTicks: 100 };
const events = {
  made: { type: 'made', atNs: 2n, process, monitor: { pid: 9, startTicks: 90 }, user: { uid: 0, gid: 0, supplementalGroups: [] } },
  started: { type: 'started', atNs: 3n },
  exited: { type: 'exited', atNs: 4n, exitCode: 7, reason: 'Error', message: '' },
} as const satisfies Record<string, ContainerEvent>;
const states = {
  making: { name: 'making', createdAtNs: 1n },
  created: { name: 'created', createdAtNs: 1n },
  running: { name: 'running', createdAtNs: 1n, startedAtNs: 3n },
  exited: { name: 'exited', createdAtNs: 1n, startedAtNs: 3n, finishedAtNs: 4n, exitCode: 0, reason: 'Completed', message: '' },
} as const satisfies Record<ContainerState['name'], ContainerState>;

const record = (state: ContainerState): ContainerRecord => ({
  version: 1,
  id: asContainerId('c'),
  sandboxId: asSandboxId('s'),
  name: 'k8s_c',
  config: ContainerConfig.create(),
  image: { id: 'sha256:0', ref: 'busybox', layers: [] },
  runtimeHandler: 'runc',
  bundleDir: '/b',
  logPath: undefined,
  cgroupPath: '/c',
  stopSignal: 15,
  user: undefined,
  resources: undefined,
  process: undefined,
  monitor: undefined,
  state,
  owns: [],
});

const table: [keyof typeof states, keyof typeof events, ContainerState | 'illegal'][] = [
  ['making', 'made', states.created],
  ['making', 'started', 'illegal'],
  ['making', 'exited', { ...states.exited, startedAtNs: 0n, exitCode: 7, reason: 'Error' }],
  ['created', 'made', 'illegal'],
  ['created', 'started', states.running],
  ['created', 'exited', { ...states.exited, startedAtNs: 0n, exitCode: 7, reason: 'Error' }],
  ['running', 'made', 'illegal'],
  ['running', 'started', 'illegal'],
  ['running', 'exited', { ...states.exited, exitCode: 7, reason: 'Error' }],
  ['exited', 'made', 'illegal'],
  ['exited', 'started', states.exited],
  ['exited', 'exited', states.exited],
];

for (const [from, by, to] of table) {
  test(`a container that is ${from} and hears ${by} is ${to === 'illegal' ? 'refused' : to.name}`, () => {
    if (to === 'illegal') assert.throws(() => nextContainer(record(states[from]), events[by]), { kind: 'internal' });
    else assert.deepEqual(nextContainer(record(states[from]), events[by]).state, to);
  });
}

test('a process that exited before the runtime said that it started keeps its exit and gets a start time', () => {
  const exited = nextContainer(record(states.created), events.exited);
  assert.deepEqual(nextContainer(exited, events.started).state, { ...states.exited, startedAtNs: 3n, exitCode: 7, reason: 'Error' });
});
