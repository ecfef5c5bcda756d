/** Certificates of our own making, read back by OpenSSL's parser inside Node. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { addressBytes, makeCertificate } from './certificate.ts';

const day = 86_400_000;
const notBefore = new Date('2026-01-02T03:04:05Z');

test('a self-signed serving certificate carries its names and addresses and verifies against its own key', async () => {
  const made = await makeCertificate({ subject: { commonName: 'n1@1767322800' }, notBefore, notAfter: new Date(notBefore.getTime() + 365 * day), use: 'server', hosts: ['n1', '10.0.0.7', 'fd00::1:7'] });
  const certificate = new X509Certificate(made.certificatePem);
  assert.equal(certificate.subject, 'CN=n1@1767322800');
  assert.equal(certificate.subjectAltName, 'DNS:n1, IP Address:10.0.0.7, IP Address:FD00:0:0:0:0:0:1:7');
  assert.equal(certificate.checkIP('10.0.0.7'), '10.0.0.7');
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  assert.equal(certificate.validToDate.toISOString(), '2027-01-02T03:04:05.000Z');
  assert.equal(certificate.ca, false);
  assert.ok(certificate.verify(certificate.publicKey));
  assert.ok(certificate.checkPrivateKey(made.key));
});

test('a client certificate keeps user and groups, is signed by its authority, and may last beyond 2050', async () => {
  const authority = { subject: { commonName: 'test-ca' } };
  const ca = await makeCertificate({ ...authority, notBefore, notAfter: new Date('2060-01-01T00:00:00Z'), use: 'authority' });
  const subject = { commonName: 'system:node:n1', organizations: ['system:nodes', 'other'] };
  const made = await makeCertificate({ subject, notBefore, notAfter: new Date('2059-01-01T00:00:00Z'), use: 'client', issuer: { ...authority, key: ca.key } });
  const certificate = new X509Certificate(made.certificatePem);
  assert.equal(certificate.subject, 'O=system:nodes\nO=other\nCN=system:node:n1');
  assert.equal(certificate.validToDate.getUTCFullYear(), 2059);
  const parent = new X509Certificate(ca.certificatePem);
  assert.ok(parent.ca);
  assert.ok(certificate.checkIssued(parent));
  assert.ok(certificate.verify(parent.publicKey));
});

for (const [address, hex] of [['127.0.0.1', '7f000001'], ['::1', '00000000000000000000000000000001'], ['2001:db8::', '20010db8000000000000000000000000'], ['::ffff:1.2.3.4', '00000000000000000000ffff01020304']] as const) {
  test(`${address} as bytes`, () => assert.equal(addressBytes(address).toString('hex'), hex));
}
