/**
 * Credentials for the whole node: a file in the format of docker's config.json, of which `auths` counts. Read at each pull, so that it can be changed at any time.
 * What the kubelet does with image pull secrets, done here: the entry with the longest path that the repository is below, `*` for a part of a host name.
 */
import { readFile } from 'node:fs/promises';
import type { AuthConfig } from '#cri-api';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { canonicalHost, credentialsOf, type Credentials } from './registry-auth.ts';

/** By address, as it stands in the file. */
export type NodeCredentials = ReadonlyMap<string, Credentials>;

const maxBytes = 1024 * 1024;

/** Empty without a file. Throws Fault invalid, which shows nothing of the content, for one that is damaged. */
export async function readCredentials(file: string | undefined): Promise<NodeCredentials> {
  if (file === undefined) return new Map();
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return new Map();
    throw new Fault('invalid', `the registry credentials ${file} cannot be read`, error);
  }
  return parseCredentials(text, file);
}

export function parseCredentials(text: string, file: string): NodeCredentials {
  const broken = (why: string): Fault => new Fault('invalid', `the registry credentials ${file}: ${why}`);
  if (text.length > maxBytes) throw broken(`has more than ${maxBytes} bytes`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw broken('is not JSON'); // the parser's own words would show what is there
  }
  if (!isFields(document)) throw broken('is not a JSON object');
  const { auths = {} } = document;
  if (!isFields(auths)) throw broken('auths is not an object');
  const found = new Map<string, Credentials>();
  for (const [address, entry] of Object.entries(auths)) {
    if (!isFields(entry)) throw broken(`auths[${JSON.stringify(address)}] is not an object`);
    try {
      found.set(address, credentialsOf(authConfig(entry), ''));
    } catch {
      throw broken(`auths[${JSON.stringify(address)}].auth is not base64 of "user:password"`);
    }
  }
  return found;
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

const authConfig = (entry: Fields): AuthConfig => ({
  username: textOf(entry['username']),
  password: textOf(entry['password']),
  auth: textOf(entry['auth']),
  identityToken: textOf(entry['identitytoken']),
  registryToken: textOf(entry['registrytoken']),
  serverAddress: '',
});

/** For a repository (`team/app`) at a host (`quay.io`, `docker.io`): undefined when the file has nothing for it. */
export function credentialsFor(node: NodeCredentials, host: string, repository: string): Credentials | undefined {
  let best: { path: string; credentials: Credentials } | undefined;
  for (const [address, credentials] of node) {
    const [pattern = '', ...rest] = address.replace(/^https?:\/\//, '').split('/');
    const path = rest.join('/').replace(/^v[12]\/?$/, '').replace(/\/$/, '');
    const isBelow = path === '' || repository === path || repository.startsWith(`${path}/`);
    if (isBelow && isHost(canonicalHost(pattern), canonicalHost(host)) && (best === undefined || path.length > best.path.length)) best = { path, credentials };
  }
  return best?.credentials;
}

/** `*` stands for characters of one part of the name. */
function isHost(pattern: string, host: string): boolean {
  if (!pattern.includes('*')) return pattern === host;
  const expression = pattern.split('*').map((literal) => literal.replace(/[^A-Za-z0-9]/g, String.raw`\$&`)).join('[^.]*');
  return new RegExp(`^${expression}$`).test(host);
}
