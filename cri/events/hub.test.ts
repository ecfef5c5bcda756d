/** Who hears what of the event hub. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventHub } from './hub.ts';

const limits = { queued: 3, kept: 2, keptForMs: 1000 };

async function take<T>(from: AsyncGenerator<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < count) {
    const { value, done } = await from.next();
    if (done === true) break;
    taken.push(value);
  }
  return taken;
}

test('every listener hears everything that happens while it listens', async () => {
  const hub = new EventHub<number>(() => 0, limits);
  const ends = new AbortController();
  const [one, two] = [hub.listen(ends.signal), hub.listen(ends.signal)];
  const [first, second] = [take(one, 2), take(two, 2)];
  hub.publish(1);
  hub.publish(2);
  assert.deepEqual([await first, await second], [[1, 2], [1, 2]]);
});

test('a listener that is slow loses the oldest and is told once', async () => {
  const hub = new EventHub<number>(() => 0, limits);
  let told = 0;
  const slow = hub.listen(new AbortController().signal, () => { told += 1; });
  const first = slow.next();
  for (let event = 0; event < 10; event += 1) hub.publish(event);
  assert.deepEqual([(await first).value, ...(await take(slow, 2))], [7, 8, 9]);
  assert.deepEqual([hub.lost, told], [7, 1]);
});

test('what happened while nobody listened is heard by the first that comes, unless it is old or too much', async () => {
  let nowMs = 0;
  const hub = new EventHub<number>(() => nowMs, limits);
  for (const event of [1, 2, 3]) hub.publish(event);
  const first = hub.listen(new AbortController().signal);
  assert.deepEqual(await take(first, 2), [2, 3]);
  await first.return();
  hub.publish(4);
  nowMs = 1001;
  hub.publish(5);
  assert.deepEqual(await take(hub.listen(new AbortController().signal), 1), [5]);
});

test('listening ends with its signal and when the hub closes', async () => {
  const hub = new EventHub<number>(() => 0, limits);
  const ends = new AbortController();
  const one = take(hub.listen(ends.signal), 1);
  const two = take(hub.listen(new AbortController().signal), 1);
  ends.abort();
  hub.close();
  assert.deepEqual([await one, await two], [[], []]);
});
