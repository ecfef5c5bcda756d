/** Lists that are put together from encoded items, against the generated decoder. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encoded, encodedList } from './encoded.ts';
import { Container, ListContainersResponse } from './gen/api.ts';

test('a list of encoded items is what the generated code would have encoded', () => {
  for (const lengths of [[], [0], [1, 127, 128], [16_383, 16_384, 3_000_000]]) {
    const containers = lengths.map((length) => Container.create({ id: 'x'.repeat(length), createdAt: 7n }));
    const list = encodedList(containers.map((container) => encoded(Container, container)));
    assert.deepEqual(ListContainersResponse.decode(list), { containers });
    assert.deepEqual(list, Buffer.from(ListContainersResponse.encode({ containers }).finish()));
  }
});
