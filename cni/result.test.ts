/** Results of every spec version; the samples are what the reference plugins of that time print. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseResult, parseVersionAnswer, podIps } from './result.ts';

const of10 = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'cni0', mac: '36:f5:dc:48:20:55' }, { name: 'veth2b499d9e' }, { name: 'eth0', mac: '4e:20:e9:fe:53:6a', sandbox: '/run/ns/net' }],
  ips: [{ address: '10.200.77.2/24', gateway: '10.200.77.1', interface: 2 }, { address: 'fd00:c8::2/64', gateway: 'fd00:c8::1', interface: 2 }],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0', gw: 'fd00:c8::1' }],
  dns: { nameservers: ['10.0.0.10'] },
};
const of04 = { ...of10, cniVersion: '0.4.0', ips: [{ version: '4', ...of10.ips[0] }, { version: '6', ...of10.ips[1] }] };
const of02 = { cniVersion: '0.2.0', ip4: { ip: '10.1.0.2/16', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0' }] }, ip6: { ip: 'fd00::2/64' } };

test('1.x and 0.4 say the same, and turn into each other', () => {
  const modern = parseResult(JSON.stringify(of10), '1.0.0');
  const old = parseResult(JSON.stringify(of04), '0.4.0');
  assert.deepEqual({ ...modern, raw: 0 }, { ...old, raw: 0 });
  assert.deepEqual(parseResult(JSON.stringify(of04), '1.0.0').raw, of10);
  assert.deepEqual(parseResult(JSON.stringify(of10), '0.3.1').raw, { ...of04, cniVersion: '0.3.1' });
  assert.deepEqual(modern.interfaces[2], { name: 'eth0', mac: '4e:20:e9:fe:53:6a', sandbox: '/run/ns/net' });
});

test('0.2 has its addresses in ip4 and ip6', () => {
  const result = parseResult(JSON.stringify(of02), '0.2.0');
  assert.deepEqual(result.ips, [{ address: '10.1.0.2/16', gateway: '10.1.0.1' }, { address: 'fd00::2/64' }]);
  assert.deepEqual(result.raw, of02);
  assert.deepEqual(parseResult(JSON.stringify(of02), '1.0.0').raw['routes'], [{ dst: '0.0.0.0/0' }]);
});

test('fields nobody knows reach the next plugin when the version stays', () => {
  assert.deepEqual(parseResult(JSON.stringify({ ...of10, cniVersion: '1.1.0', vendor: { x: 1 } }), '1.1.0').raw['vendor'], { x: 1 });
});

test('the pod has the addresses of its own interface in the sandbox', () => {
  assert.deepEqual(podIps(parseResult(JSON.stringify(of10), '1.0.0'), 'eth0'), ['10.200.77.2', 'fd00:c8::2']);
  assert.deepEqual(podIps(parseResult(JSON.stringify(of10), '1.0.0'), 'eth1'), []);
  assert.deepEqual(podIps(parseResult(JSON.stringify(of02), '0.2.0'), 'eth0'), ['10.1.0.2', 'fd00::2']);
});

const nonsense: readonly [string, string, string][] = [
  ['nothing', '', 'it printed no result'],
  ['text', 'panic: oh', 'it printed no JSON but "panic: oh"'],
  ['a list', '[]', 'its result is not a JSON object'],
  ['an address without length', JSON.stringify({ ips: [{ address: '10.0.0.1' }] }), 'result: ips[0].address: "10.0.0.1" is not an address with a prefix length'],
  ['an address out of range', JSON.stringify({ ips: [{ address: '10.0.0.300/24' }] }), 'result: ips[0].address: "10.0.0.300/24" is not an address with a prefix length'],
  ['a gateway that is none', JSON.stringify({ ips: [{ address: '10.0.0.1/24', gateway: 'gw' }] }), 'result: ips[0].gateway: "gw" is not an address'],
  ['an interface that is not there', JSON.stringify({ ips: [{ address: '10.0.0.1/24', interface: 0 }] }), 'result: ips[0].interface: there is no interface number 0'],
  ['a route to nowhere', JSON.stringify({ routes: [{ dst: 'default' }] }), 'result: routes[0].dst: "default" is not a CIDR'],
];
for (const [name, text, want] of nonsense) test(`${name} as a result is named`, () => assert.throws(() => parseResult(text, '1.0.0'), new RangeError(want)));

test('the answer to VERSION', () => {
  assert.deepEqual(parseVersionAnswer('{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.1.0"]}'), ['0.4.0', '1.1.0']);
  assert.deepEqual(parseVersionAnswer('{"cniVersion":"0.2.0"}'), ['0.1.0', '0.2.0']);
});
