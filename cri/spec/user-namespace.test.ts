/** Which user namespaces a pod may ask for, and that its containers are in the same one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeepPartial, NamespaceMode, NamespaceOption, type UserNamespace } from '#cri-api';
import { hostIdOf, rootOf } from '#host/id-mapping.ts';
import { assertSameMappings, userMappings } from './user-namespace.ts';

const range = { hostId: 1000, containerId: 0, length: 65_536 };
const options = (usernsOptions: DeepPartial<UserNamespace>, rest: DeepPartial<NamespaceOption> = {}): NamespaceOption =>
  NamespaceOption.fromPartial({ ...rest, usernsOptions: { mode: NamespaceMode.POD, uids: [range], gids: [range], ...usernsOptions } });

test('a pod has the user namespace of the host unless it asks for its own', () => {
  assert.equal(userMappings(undefined), undefined);
  assert.equal(userMappings(NamespaceOption.create()), undefined);
  assert.equal(userMappings(options({ mode: NamespaceMode.NODE })), undefined);
  const mapping = { containerId: 0, hostId: 1000, size: 65_536 };
  assert.deepEqual(userMappings(options({})), { uids: [mapping], gids: [mapping] });
});

const refused: [string, NamespaceOption, RegExp][] = [
  ['another mode', options({ mode: NamespaceMode.CONTAINER }), /mode must be POD or NODE/],
  ['no mapping', options({ uids: [] }), /uids: there must be one mapping, not 0/],
  ['two mappings', options({ gids: [range, range] }), /gids: there must be one mapping, not 2/],
  ['no root', options({ uids: [{ ...range, containerId: 1 }] }), /container id 0 is not mapped/],
  ['an empty range', options({ uids: [{ ...range, length: 0 }] }), /length 0 from 1000 on/],
  ['a range beyond all ids', options({ gids: [{ ...range, hostId: 2 ** 32 - 65_535 }] }), /is not a range of ids/],
  ["the host's ipc as well", options({}, { ipc: NamespaceMode.NODE }), /host's ipc/],
  ["the host's pids as well", options({}, { pid: NamespaceMode.NODE }), /host's pid/],
];
for (const [what, asked, message] of refused) test(`a user namespace with ${what} is refused`, () => assert.throws(() => userMappings(asked), { kind: 'invalid', message }));

test("a container may repeat its pod's mappings or say nothing, but not have others", () => {
  const pod = options({});
  for (const same of [undefined, NamespaceOption.create(), options({})]) assertSameMappings(same, pod);
  assertSameMappings(options({ mode: NamespaceMode.NODE }), undefined);
  for (const other of [options({ mode: NamespaceMode.NODE }), options({ uids: [{ ...range, hostId: 2000 }] })]) assert.throws(() => assertSameMappings(other, pod), { kind: 'invalid' });
  assert.throws(() => assertSameMappings(pod, undefined), { kind: 'invalid' });
});

test('ids inside are others outside, and those that are not mapped are nobody', () => {
  const mappings = userMappings(options({}));
  assert.deepEqual([0, 5, 65_535, 65_536].map((id) => hostIdOf(mappings?.uids ?? [], id)), [1000, 1005, 66_535, 65_534]);
  assert.deepEqual([rootOf(mappings), rootOf(undefined)], [{ uid: 1000, gid: 1000 }, { uid: 0, gid: 0 }]);
});
