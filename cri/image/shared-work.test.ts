/** Work with several callers: who starts it, who waits, when it is given up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { quietCtx } from '#host/log.ts';
import { Holds } from './holds.ts';
import { SharedWork } from './shared-work.ts';
import { Slots } from './slots.ts';

const caller = (): { ctx: Ctx; leave: () => void } => {
  const controller = new AbortController();
  return { ctx: { ...quietCtx(), signal: controller.signal }, leave: () => controller.abort(new Error('left')) };
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('who comes later joins, and the work outlives the caller who started it', async () => {
  const shared = new SharedWork<number>();
  const { promise, resolve } = Promise.withResolvers<number>();
  let runs = 0;
  let signal: AbortSignal | undefined;
  const work = (ctx: Ctx): Promise<number> => {
    runs += 1;
    ({ signal } = ctx);
    return promise;
  };
  const first = caller();
  const one = shared.join(first.ctx, 'k', work);
  const two = shared.join(caller().ctx, 'k', work);
  first.leave();
  await assert.rejects(one, /left/);
  assert.equal(signal?.aborted, false);
  resolve(7);
  assert.equal(await two, 7);
  assert.deepEqual([runs, shared.size], [1, 0]);
});
test('when the last has left the work is given up, and the next one starts it anew after it has ended', async () => {
  const shared = new SharedWork<number>();
  const ended = Promise.withResolvers<void>();
  const only = caller();
  const order: string[] = [];
  const one = shared.join(only.ctx, 'k', async (ctx) => {
    await new Promise<void>((resolve) => ctx.signal.addEventListener('abort', () => resolve()));
    await ended.promise;
    order.push('first ended');
    throw new Error('given up');
  });
  only.leave();
  await assert.rejects(one, /left/);
  const two = shared.join(caller().ctx, 'k', async () => {
    order.push('second began');
    return 2;
  });
  await turn();
  assert.deepEqual(order, []);
  ended.resolve();
  assert.equal(await two, 2);
  assert.deepEqual(order, ['first ended', 'second began']);
});
test('a failure is for all who wait', async () => {
  const shared = new SharedWork<number>();
  const fail = async (): Promise<number> => {
    await turn();
    throw new Error('no');
  };
  await Promise.all([assert.rejects(shared.join(caller().ctx, 'k', fail), /no/), assert.rejects(shared.join(caller().ctx, 'k', fail), /no/)]);
});
test('slots let in so many and not more', async () => {
  const slots = new Slots(2);
  let inside = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 7 }, async () => {
      using _slot = await slots.take(quietCtx());
      inside += 1;
      most = Math.max(most, inside);
      await turn();
      inside -= 1;
    }),
  );
  assert.deepEqual([most, inside], [2, 0]);
});
test('who leaves the queue for a slot takes none with him', async () => {
  const slots = new Slots(1);
  const held = slots.tryTake() ?? assert.fail();
  assert.equal(slots.tryTake(), undefined);
  const leaver = new AbortController();
  const left = slots.take({ ...quietCtx(), signal: leaver.signal });
  const waiting = slots.take(quietCtx());
  leaver.abort(new Error('left'));
  await assert.rejects(left, /left/);
  held[Symbol.dispose]();
  held[Symbol.dispose]();
  (await waiting)[Symbol.dispose]();
  assert.notEqual(slots.tryTake(), undefined);
});
test('what two hold is held until both let go', () => {
  const holds = new Holds();
  const [a, b] = [holds.take(['x', 'y']), holds.take(['x'])];
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  assert.deepEqual([holds.has('x'), holds.has('y')], [true, false]);
  b[Symbol.dispose]();
  assert.equal(holds.has('x'), false);
});
