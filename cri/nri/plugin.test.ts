/** What a plugin is told at first, and what its file is called. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Container, PodSandbox, SynchronizeRequest } from './gen/api.ts';
import { synchronizeRequests } from './plugin.ts';
import { parsePluginName } from './plugin-name.ts';

test('a big state goes in several messages, none too long and nothing lost', () => {
  const pods = Array.from({ length: 20 }, (_, i) => PodSandbox.create({ id: `pod${i}`, annotations: { text: 'x'.repeat(i * 10) } }));
  const containers = Array.from({ length: 50 }, (_, i) => Container.create({ id: `c${i}`, env: ['y'.repeat(i)] }));
  const requests = synchronizeRequests(pods, containers, 1000);
  assert.ok(requests.length > 3);
  for (const request of requests) assert.ok(SynchronizeRequest.encode(request).finish().length <= 1000);
  assert.deepEqual(requests.flatMap((request) => request.pods.map(({ id }) => id)), pods.map(({ id }) => id));
  assert.deepEqual(requests.flatMap((request) => request.containers.map(({ id }) => id)), containers.map(({ id }) => id));
  assert.deepEqual(requests.map(({ more }) => more), [...requests.slice(1).map(() => true), false]);
});

test('no state is one message', () => {
  assert.deepEqual(synchronizeRequests([], []), [{ pods: [], containers: [], more: false }]);
});

for (const [file, parsed] of [['10-logger', { index: '10', name: 'logger' }], ['00-a-b', { index: '00', name: 'a-b' }], ['1-a', undefined], ['10', undefined], ['logger', undefined]] as const) {
  test(`${file} in the plugin folder is ${parsed === undefined ? 'no plugin' : 'a plugin'}`, () => assert.deepEqual(parsePluginName(file), parsed));
}
