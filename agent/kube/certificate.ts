/** Makes X.509 certificates without openssl: the self-signed serving certificate, and the authorities of tests. */
import { generateKeyPair, randomBytes, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { isIP, isIPv6 } from 'node:net';
import { promisify } from 'node:util';
import { bits, explicit, implicit, integer, objectId, octets, sequence, set, time, utf8, yes } from './der.ts';

export interface Subject {
  readonly commonName: string;
  /** The groups, when Kubernetes reads it. */
  readonly organizations?: readonly string[];
}

export interface CertificateOptions {
  readonly subject: Subject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly use: 'server' | 'client' | 'authority';
  /** Names and addresses that the certificate is good for. */
  readonly hosts?: readonly string[];
  /** Without one it signs itself. */
  readonly issuer?: { readonly subject: Subject; readonly key: KeyObject };
}

export interface MadeCertificate {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly key: KeyObject;
}

const ecdsaWithSha256 = sequence(objectId('1.2.840.10045.4.3.2'));
const keyPair = promisify(generateKeyPair);

/** A new P-256 key and its certificate. */
export async function makeCertificate(options: CertificateOptions): Promise<MadeCertificate> {
  const { publicKey, privateKey } = await keyPair('ec', { namedCurve: 'P-256' });
  const issuer = options.issuer ?? { subject: options.subject, key: privateKey };
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ecdsaWithSha256,
    distinguishedName(issuer.subject),
    sequence(time(options.notBefore), time(options.notAfter)),
    distinguishedName(options.subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, extensions(options)),
  );
  const certificate = sequence(body, ecdsaWithSha256, bits(sign('sha256', body, issuer.key)));
  return {
    certificatePem: `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    key: privateKey,
  };
}

function distinguishedName({ commonName, organizations = [] }: Subject): Buffer {
  const part = (id: string, text: string): Buffer => set(sequence(objectId(id), utf8(text)));
  return sequence(...organizations.map((name) => part('2.5.4.10', name)), part('2.5.4.3', commonName));
}

const usages = {
  server: { keyUsage: bits(Buffer.from([0xa0]), 5), extended: '1.3.6.1.5.5.7.3.1' }, // digital signature, key encipherment
  client: { keyUsage: bits(Buffer.from([0xa0]), 5), extended: '1.3.6.1.5.5.7.3.2' },
  authority: { keyUsage: bits(Buffer.from([0x06]), 1), extended: undefined }, // sign certificates and revocation lists
} as const;

function extensions({ use, hosts = [] }: CertificateOptions): Buffer {
  const { keyUsage, extended } = usages[use];
  const critical = (id: string, value: Buffer): Buffer => sequence(objectId(id), yes(), octets(value));
  const list = [critical('2.5.29.15', keyUsage), critical('2.5.29.19', use === 'authority' ? sequence(yes()) : sequence())];
  if (extended !== undefined) list.push(sequence(objectId('2.5.29.37'), octets(sequence(objectId(extended)))));
  if (hosts.length > 0) list.push(sequence(objectId('2.5.29.17'), octets(sequence(...hosts.map(alternativeName)))));
  return sequence(...list);
}

const alternativeName = (host: string): Buffer => (isIP(host) === 0 ? implicit(2, Buffer.from(host)) : implicit(7, addressBytes(host)));

/** The 4 or 16 bytes of an address. */
export function addressBytes(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const canonical = new URL(`http://[${address.split('%')[0] ?? ''}]/`).hostname.slice(1, -1); // always in groups of hexadecimal digits
  const [head = '', tail] = canonical.split('::');
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const left = groups(head);
  const right = groups(tail);
  const missing = tail === undefined ? 0 : 8 - left.length - right.length;
  const all = [...left, ...Array<string>(missing).fill('0'), ...right];
  return Buffer.from(all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]));
}
