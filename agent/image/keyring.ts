/** Credentials for an image out of docker configurations: those that match, the most specific first. */
import type { Secret } from '../kube/types.ts';
import { parseImageName } from './pull-policy.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly registryToken: string;
}

interface Entry {
  readonly host: string;
  readonly path: string;
  readonly credentials: Credentials;
}

const isMap = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const stringIn = (map: Record<string, unknown>, key: string): string => (typeof map[key] === 'string' ? map[key] : '');

/** The entries of a secret of type dockerconfigjson or dockercfg; anything unreadable counts as empty. */
function entriesOf(secret: Secret): Entry[] {
  const json = secret.data?.['.dockerconfigjson'] ?? secret.data?.['.dockercfg'];
  const text = json === undefined ? (secret.stringData?.['.dockerconfigjson'] ?? secret.stringData?.['.dockercfg']) : Buffer.from(json, 'base64').toString('utf8');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text ?? '{}');
  } catch {
    return []; // the kubelet ignores it too; the pull then fails with the registry's own words
  }
  const auths = isMap(parsed) ? (isMap(parsed['auths']) ? parsed['auths'] : parsed) : {};
  return Object.entries(auths).flatMap(([server, auth]) => (isMap(auth) ? [entry(server, auth)] : []));
}

function entry(server: string, auth: Record<string, unknown>): Entry {
  const bare = server.replace(/^https?:\/\//, '').replace(/\/+$/, '').replace(/\/v[12]$/, '');
  const slash = bare.indexOf('/');
  const decoded = Buffer.from(stringIn(auth, 'auth'), 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  const host = slash < 0 ? bare : bare.slice(0, slash);
  return {
    host: host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host,
    path: slash < 0 ? '' : bare.slice(slash + 1),
    credentials: {
      username: colon < 0 ? stringIn(auth, 'username') : decoded.slice(0, colon),
      password: colon < 0 ? stringIn(auth, 'password') : decoded.slice(colon + 1).replaceAll('\0', ''),
      identityToken: stringIn(auth, 'identitytoken'),
      registryToken: stringIn(auth, 'registrytoken'),
    },
  };
}

/** `*` stands for one label of the host; the port must be the same. */
function hostMatches(pattern: string, host: string): boolean {
  const [names, port] = [pattern.split(':')[0] ?? '', pattern.split(':')[1]];
  const [wanted, wantedPort] = [host.split(':')[0] ?? '', host.split(':')[1]];
  if (port !== wantedPort) return false;
  const [labels, others] = [names.split('.'), wanted.split('.')];
  return labels.length === others.length && labels.every((label, index) => label === '*' || new RegExp(`^${label.split('*').map(escape).join('.*')}$`).test(others[index] ?? ''));
}
const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Throws Fault('invalid') when `image` is no image name. */
export function credentialsFor(image: string, secrets: readonly Secret[]): Credentials[] {
  const { host, path } = parseImageName(image);
  return secrets
    .flatMap(entriesOf)
    .filter((entry) => hostMatches(entry.host, host) && (entry.path === '' || path === entry.path || path.startsWith(`${entry.path}/`)))
    .toSorted((one, other) => other.path.length - one.path.length || other.host.length - one.host.length)
    .map((entry) => entry.credentials);
}
