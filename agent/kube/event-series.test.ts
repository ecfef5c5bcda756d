/** What becomes of repeated, similar and too many events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventSeries } from './event-series.ts';
import { makeEvent } from './events.ts';
import type { CoreEvent } from './types.ts';

const minute = 60_000;
let serial = 0n;
const event = (message: string, name = 'p'): CoreEvent =>
  makeEvent({ kind: 'Pod', namespace: 'a', name, uid: `uid-${name}` }, 'Warning', 'Failed', message, 'n1', 1_700_000_000_000_000_000n + serial++);

test('the same event again is counted onto the first', () => {
  const series = new EventSeries();
  const first = series.next(event('x'), 0);
  const second = series.next(event('x'), minute);
  assert.equal(first?.patch, undefined);
  assert.equal(first?.event.count, 1);
  assert.deepEqual([second?.patch?.count, second?.event.metadata.name], [2, first?.event.metadata.name]);
});

test('the tenth different message of a reason within ten minutes becomes "combined from similar events"', () => {
  const series = new EventSeries();
  const sent = Array.from({ length: 12 }, (_, i) => series.next(event(`number ${i}`), i));
  assert.deepEqual(sent.slice(8).map((one) => [one?.event.message, one?.patch?.count]), [
    ['number 8', undefined],
    ['(combined from similar events): number 9', undefined],
    ['(combined from similar events): number 10', 2],
    ['(combined from similar events): number 11', 3],
  ]);
  assert.equal(series.next(event('later'), 11 * minute)?.event.message, 'later');
});

test('25 events about one object pass, then one each five minutes; other objects are not held back', () => {
  const series = new EventSeries();
  const passed = Array.from({ length: 30 }, () => series.next(event('x', 'noisy'), 0)).filter((one) => one !== undefined);
  assert.equal(passed.length, 25);
  assert.ok(series.next(event('x', 'other'), 0));
  assert.equal(series.next(event('x', 'noisy'), 4 * minute), undefined);
  assert.equal(series.next(event('x', 'noisy'), 5 * minute)?.patch?.count, 32);
});
