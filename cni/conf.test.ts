/** Configuration files: what is taken, and how what is not taken is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { folderOf, parseConfFile, withVersion } from './conf.ts';

const list = (more: Record<string, unknown>): string => JSON.stringify({ cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'bridge' }], ...more });

test('a list keeps unknown keys for its plugins and tells what it declares', () => {
  const network = parseConfFile({ path: '/d/a.conflist', text: list({ disableCheck: 'TRUE', disableGC: true, plugins: [{ type: 'portmap', snat: true, capabilities: { portMappings: true, bandwidth: false } }] }) });
  assert.deepEqual(network.plugins, [{ type: 'portmap', capabilities: ['portMappings'], raw: { type: 'portmap', snat: true, capabilities: { portMappings: true, bandwidth: false } } }]);
  assert.equal(network.disableCheck, true);
  assert.equal(network.disableGC, true);
  assert.equal(network.cniVersion, '1.0.0');
});

test('a single plugin becomes a list of one, whose text can be read again as a list', () => {
  const network = parseConfFile({ path: '/d/a.conf', text: JSON.stringify({ cniVersion: '0.3.1', name: 'flat', type: 'ptp', mtu: 1400 }) });
  assert.equal(network.name, 'flat');
  assert.equal(network.cniVersion, '0.3.1');
  const again = parseConfFile({ path: 'cached.conflist', text: network.text });
  assert.deepEqual(again.plugins, network.plugins);
});

const versions: readonly [string, Record<string, unknown>, string][] = [
  ['a missing version means 0.1.0', { cniVersion: undefined }, '0.1.0'],
  ['the newest of cniVersions wins', { cniVersion: '0.4.0', cniVersions: ['0.3.1', '1.1.0', '1.0.0'] }, '1.1.0'],
  ['versions newer than ours are passed over', { cniVersion: '9.0.0', cniVersions: ['1.0.0', '1.10.0'] }, '1.0.0'],
];
for (const [name, more, want] of versions) test(name, () => assert.equal(parseConfFile({ path: 'a.conflist', text: list(more) }).cniVersion, want));

const refused: readonly [string, string, string, string][] = [
  ['broken JSON', 'a.conflist', '{', 'a.conflist: not JSON: '],
  ['an array', 'a.conflist', '[]', 'a.conflist: must be a JSON object'],
  ['no name', 'a.conflist', list({ name: undefined }), 'a.conflist: name: missing'],
  ['a name that leads elsewhere', 'a.conflist', list({ name: '../x' }), 'a.conflist: name: "../x" may only have letters'],
  ['no plugins', 'a.conflist', list({ plugins: [] }), 'a.conflist: plugins: missing or empty'],
  ['plugins of the wrong kind', 'a.conflist', list({ plugins: {} }), 'a.conflist: plugins: must be a list'],
  ['a plugin without type', 'a.conflist', list({ plugins: [{ type: 'x' }, {}] }), 'a.conflist: plugins[1].type: missing'],
  ['a type that is a path', 'a.conflist', list({ plugins: [{ type: '../../bin/sh' }] }), 'a.conflist: plugins[0].type: "../../bin/sh" must be a plain file name'],
  ['a capability that is no boolean', 'a.conflist', list({ plugins: [{ type: 'x', capabilities: { dns: 'yes' } }] }), 'a.conflist: plugins[0].capabilities.dns: must be true or false'],
  ['a flag that is no boolean', 'a.conflist', list({ disableGC: 1 }), 'a.conflist: disableGC: must be true or false'],
  ['a version from the future', 'a.conflist', list({ cniVersion: '2.0.0' }), 'a.conflist: cniVersion: 2.0.0 is newer than 1.1.0, the newest that nodelet knows'],
  ['a version that is none', 'a.conflist', list({ cniVersions: ['1.0.0', 'one'] }), 'a.conflist: cniVersions[1]: "one" is not a version'],
  ['a list in a .conf', 'a.conf', list({}), 'a.conf: plugins: a list of plugins must be in a file that ends in .conflist'],
  ['loadOnlyInlinedPlugins without any', 'a.conflist', list({ plugins: undefined, loadOnlyInlinedPlugins: true }), 'a.conflist: plugins: missing, while loadOnlyInlinedPlugins is true'],
];
for (const [name, path, text, want] of refused) {
  test(`${name} is refused with file and field`, () => {
    assert.throws(() => parseConfFile({ path, text }), (error: unknown) => isFault(error, 'invalid') && error.message.startsWith(want));
  });
}

test('plugins of the folder follow the inlined ones, and the cached text has them all', () => {
  const file = { path: '/d/a.conflist', text: list({}) };
  assert.equal(folderOf(file), 'net');
  const network = parseConfFile({ ...file, more: [{ path: '/d/net/1.conf', text: '{"type":"tuning"}' }] });
  assert.deepEqual(network.plugins.map((plugin) => plugin.type), ['bridge', 'tuning']);
  const cached = { path: 'cached.conflist', text: network.text };
  assert.equal(folderOf(cached), undefined);
  assert.deepEqual(parseConfFile(cached).plugins.map((plugin) => plugin.type), ['bridge', 'tuning']);
});

test('a network that agreed on an older version remembers it', () => {
  const network = parseConfFile({ path: 'a.conflist', text: list({ cniVersions: ['0.4.0', '1.1.0'] }) });
  const older = withVersion(network, '0.4.0');
  assert.equal(parseConfFile({ path: 'a.conflist', text: older.text }).cniVersion, '0.4.0');
});
