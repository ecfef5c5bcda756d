/** Repeated requests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import { Flights } from './flights.ts';
import { KeyedLock } from './keyed-lock.ts';

test('a request that comes while the same one is under way joins it', async () => {
  const flights = new Flights<number>();
  const { promise, resolve } = Promise.withResolvers<number>();
  let starts = 0;
  const work = (): Promise<number> => {
    starts += 1;
    return promise;
  };
  const both = Promise.all([flights.join(quietCtx(), 'n', work), flights.join(quietCtx(), 'n', work)]);
  resolve(5);
  assert.deepEqual([await both, starts], [[5, 5], 1]);
});

test('an answer that its caller did not wait for is kept for the next one, once', async () => {
  const flights = new Flights<string>();
  const { promise, resolve } = Promise.withResolvers<string>();
  const abort = new AbortController();
  const first = flights.join({ ...quietCtx(), signal: abort.signal }, 'n', () => promise);
  abort.abort(new Error('deadline'));
  await assert.rejects(first, { kind: 'canceled' });
  resolve('first');
  await promise;
  await new Promise(setImmediate);
  assert.equal(await flights.join(quietCtx(), 'n', () => Promise.resolve('second')), 'first');
  assert.equal(await flights.join(quietCtx(), 'n', () => Promise.resolve('third')), 'third');
});

test('an answer of an earlier daemon is given once, unless what it names is gone', async () => {
  const flights = new Flights<string>();
  flights.keep('n', 'earlier');
  flights.keep('gone', 'earlier');
  flights.forget('gone');
  assert.equal(await flights.join(quietCtx(), 'n', () => Promise.resolve('new')), 'earlier');
  assert.equal(await flights.join(quietCtx(), 'n', () => Promise.resolve('new')), 'new');
  assert.equal(await flights.join(quietCtx(), 'gone', () => Promise.resolve('new')), 'new');
});

test('a failure is told to those who wait and forgotten', async () => {
  const flights = new Flights<string>();
  await assert.rejects(flights.join(quietCtx(), 'n', () => Promise.reject(new Error('no'))), /no/);
  assert.equal(await flights.join(quietCtx(), 'n', () => Promise.resolve('yes')), 'yes');
});

test('holders of a lock come in order, and keys do not wait for each other', async () => {
  const lock = new KeyedLock<string>();
  const order: string[] = [];
  const first = await lock.hold('a');
  const second = lock.hold('a').then((held) => {
    order.push('second');
    held[Symbol.dispose]();
  });
  const third = lock.hold('a').then(() => order.push('third'));
  (await lock.hold('b'))[Symbol.dispose]();
  order.push('b');
  first[Symbol.dispose]();
  await Promise.all([second, third]);
  assert.deepEqual(order, ['b', 'second', 'third']);
});
