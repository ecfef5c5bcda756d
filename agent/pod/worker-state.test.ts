/** The life of a pod on a node: every state with every event. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isForgettable, nextWork, type PodEvent, type PodWork } from './worker-state.ts';

const syncing: PodWork = { name: 'syncing' };
const terminating = (graceSeconds: number, purge: boolean, gone = false): PodWork => ({ name: 'terminating', graceSeconds, purge, gone });
const terminated = (purge: boolean, gone = false): PodWork => ({ name: 'terminated', purge, gone });
const finished = (purged: boolean, gone = false): PodWork => ({ name: 'finished', purged, gone });

const deleted: PodEvent = { type: 'deleted', graceSeconds: 10 };
const removed: PodEvent = { type: 'removed', graceSeconds: 10 };
const ended: PodEvent = { type: 'ended', graceSeconds: 10 };
const stopped: PodEvent = { type: 'stopped' };
const cleaned: PodEvent = { type: 'cleaned' };

const cases: [from: PodWork, event: PodEvent, to: PodWork][] = [
  [syncing, deleted, terminating(10, true)],
  [syncing, removed, terminating(10, true, true)],
  [syncing, ended, terminating(10, false)],
  [syncing, stopped, syncing],
  [syncing, cleaned, syncing],
  [terminating(30, false), deleted, terminating(10, true)],
  [terminating(5, true), deleted, terminating(5, true)],
  [terminating(30, true), removed, terminating(10, true, true)],
  [terminating(30, true), ended, terminating(10, true)],
  [terminating(30, false), stopped, terminated(false)],
  [terminating(30, true, true), stopped, terminated(true, true)],
  [terminating(30, true), cleaned, terminating(30, true)],
  [terminated(false), deleted, terminated(true)],
  [terminated(true), removed, terminated(true, true)],
  [terminated(false), ended, terminated(false)],
  [terminated(true), stopped, terminated(true)],
  [terminated(true), cleaned, finished(true)],
  [terminated(false), cleaned, finished(false)],
  [finished(false), deleted, terminated(true)],
  [finished(false), removed, terminated(true, true)],
  [finished(true), removed, finished(true, true)],
  [finished(true), deleted, finished(true)],
  [finished(false), ended, finished(false)],
  [finished(false), stopped, finished(false)],
  [finished(true), cleaned, finished(true)],
];

for (const [from, event, to] of cases) {
  test(`${JSON.stringify(from)} + ${event.type} → ${to.name}`, () => assert.deepEqual(nextWork(from, event), to));
}

test('a grace of zero is a second: the runtime must be able to ask', () => {
  assert.deepEqual(nextWork(syncing, { type: 'deleted', graceSeconds: 0 }), terminating(1, true));
});

test('a pod is forgotten only when nothing is left of it and nobody asks', () => {
  assert.deepEqual([finished(true, true), finished(true), finished(false, true), terminated(true, true)].map(isForgettable), [true, false, false, false]);
});
