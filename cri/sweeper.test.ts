/** When rubbish is looked for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import { Sweeper } from './sweeper.ts';

test('images that go one after the other are followed by one sweep, which waits for one that is under way', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const ends: (() => void)[] = [];
  const sweeper = new Sweeper(quietCtx(), 'images', () => new Promise((resolve) => ends.push(resolve)));
  sweeper.soon();
  sweeper.soon();
  t.mock.timers.tick(1000);
  assert.equal(ends.length, 1);
  sweeper.soon();
  t.mock.timers.tick(1000);
  assert.equal(ends.length, 1);
  ends[0]?.();
  await new Promise(setImmediate);
  t.mock.timers.tick(1000);
  assert.equal(ends.length, 2);
  sweeper.stop();
});

test('a sweep that fails is followed by the next one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  let sweeps = 0;
  const sweeper = new Sweeper(quietCtx(), 'images', () => {
    sweeps += 1;
    return Promise.reject(new Error('disk'));
  });
  t.mock.timers.tick(10 * 60_000);
  await new Promise(setImmediate);
  t.mock.timers.tick(10 * 60_000);
  assert.equal(sweeps, 2);
  sweeper.stop();
});
