/** Addresses and networks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressAt, canonical, contains, familyOf, isAddress, isCidr, overlap, parseSubnet } from './address.ts';

for (const text of ['10.0.0.1', 'fd00::1', '::', '::ffff:10.1.2.3']) test(`${text} is an address`, () => assert.equal(isAddress(text), true));
for (const text of ['', '10.0.0', '010.0.0.1', '1.2.3.4:80', 'fe80::1%eth0', ':::', '10.0.0.1/24', ' 10.0.0.1']) test(`${JSON.stringify(text)} is no address`, () => assert.equal(isAddress(text), false));
for (const text of ['10.0.0.1/24', '0.0.0.0/0', '::/0', 'fd00::1/128']) test(`${text} is a CIDR`, () => assert.equal(isCidr(text), true));
for (const text of ['10.0.0.1', '10.0.0.1/', '10.0.0.1/33', '10.0.0.1/-1', 'fd00::/129', 'fd00::/64/2', '10.0.0.1/24/3']) test(`${text} is no CIDR`, () => assert.equal(isCidr(text), false));

test('a subnet is canonical: host bits cleared, IPv6 short', () => {
  assert.deepEqual(parseSubnet('10.1.2.3/16'), { family: 4, cidr: '10.1.0.0/16', prefixLength: 16, size: 65_536n });
  assert.deepEqual(parseSubnet('fd00:0010:0:0::5/64'), { family: 6, cidr: 'fd00:10::/64', prefixLength: 64, size: 1n << 64n });
  assert.throws(() => parseSubnet('10.0.0.0'), /"10.0.0.0" is not a CIDR/);
});

test('arithmetic inside a network', () => {
  assert.equal(addressAt('10.1.0.0/16', 257n), '10.1.1.1');
  assert.equal(addressAt('fd00:10::/64', 1n), 'fd00:10::1');
  assert.throws(() => addressAt('10.1.0.0/30', 4n), RangeError);
  assert.equal(contains('10.1.0.0/16', '10.1.255.255'), true);
  assert.equal(contains('10.1.0.0/16', '10.2.0.0'), false);
  assert.equal(overlap(parseSubnet('10.1.0.0/16'), parseSubnet('10.1.8.0/24')), true);
  assert.equal(overlap(parseSubnet('10.1.0.0/24'), parseSubnet('10.1.1.0/24')), false);
  assert.equal(familyOf('::ffff:10.0.0.1'), 4);
  assert.equal(canonical('fd00:0:0:0:0:0:0:1'), 'fd00::1');
});
