/** The certificate we serve with: the configured files, read again when they change, or one of our own making. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '#host/atomic-file.ts';
import { explain, Fault } from '#host/fault.ts';
import { makeCertificate } from '../kube/certificate.ts';

export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

const dayMs = 86_400_000;
const lifeDays = 365;
const renewBeforeDays = 30;

export interface SelfSignedOptions {
  /** `kubelet.crt` and `kubelet.key` are kept here, as the kubelet keeps its own. */
  readonly pkiDir: string;
  readonly nodeName: string;
  /** Names and addresses that clients may dial. */
  readonly hosts: readonly string[];
}

/** Throws Fault('invalid') that names the file. */
export async function readKeyPair(certFile: string, keyFile: string): Promise<KeyPair> {
  const read = async (file: string): Promise<string> => {
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      throw new Fault('invalid', `${file}: cannot be read: ${explain(cause)}`, cause);
    }
  };
  const [cert, key] = [await read(certFile), await read(keyFile)];
  const problem = keyPairProblem(cert, key);
  if (problem !== undefined) throw new Fault('invalid', `${problem.of === 'key' ? keyFile : certFile}: ${problem.text}`);
  return { cert, key };
}

function keyPairProblem(cert: string, key: string): { of: 'cert' | 'key'; text: string } | undefined {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(cert);
  } catch {
    return { of: 'cert', text: 'holds no PEM certificate' };
  }
  try {
    return certificate.checkPrivateKey(createPrivateKey(key)) ? undefined : { of: 'key', text: 'is not the key of the certificate' };
  } catch {
    return { of: 'key', text: 'holds no PEM private key' };
  }
}

/** The one kept from before if it is whole, good for all hosts and for a month yet; otherwise a new one, good for a year. */
export async function selfSignedKeyPair(options: SelfSignedOptions, nowMs = Date.now()): Promise<KeyPair> {
  const certFile = join(options.pkiDir, 'kubelet.crt');
  const keyFile = join(options.pkiDir, 'kubelet.key');
  const kept = await readKeyPair(certFile, keyFile).catch(() => undefined); // absent or half written: made anew
  if (kept !== undefined && isGood(kept.cert, options.hosts, nowMs)) return kept;
  const made = await makeCertificate({
    subject: { commonName: `${options.nodeName}@${Math.floor(nowMs / 1000)}` },
    use: 'server',
    hosts: options.hosts,
    notBefore: new Date(nowMs - 3_600_000), // clocks differ
    notAfter: new Date(nowMs + lifeDays * dayMs),
  });
  await mkdir(options.pkiDir, { recursive: true, mode: 0o750 });
  await writeFileAtomic(keyFile, made.keyPem, { mode: 0o600 });
  await writeFileAtomic(certFile, made.certificatePem, { mode: 0o644 });
  return { cert: made.certificatePem, key: made.keyPem };
}

function isGood(pem: string, hosts: readonly string[], nowMs: number): boolean {
  const certificate = new X509Certificate(pem);
  const isNamed = (host: string): boolean => certificate.checkHost(host) !== undefined || certificate.checkIP(host) !== undefined;
  return certificate.validToDate.getTime() - nowMs > renewBeforeDays * dayMs && hosts.every(isNamed);
}
