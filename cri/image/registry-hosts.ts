/**
 * Where a registry's content is fetched: `<certsDir>/<host>/hosts.toml` in containerd's format, or its `_default`, read at each pull
 * (containerd docs/hosts.md; core/remotes/docker/config/hosts.go). Without one, the registry itself: https, on this
 * machine also without a known certificate, or http.
 */
import { readdir, readFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { readIfThere } from '#host/read-if-there.ts';

export interface EndpointTls {
  /** Trusted beside the system's own. */
  readonly ca: readonly string[];
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly skipVerify: boolean;
}

export interface Endpoint {
  readonly scheme: 'http' | 'https';
  /** With its port, if any. */
  readonly host: string;
  /** What goes before `/<name>/manifests/…`: `/v2`, or what override_path says. */
  readonly path: string;
  /** May it say what a tag means? */
  readonly canResolve: boolean;
  /** May content be fetched from it? */
  readonly canPull: boolean;
  readonly tls: EndpointTls;
  readonly headers: Readonly<Record<string, readonly string[]>>;
  /** It may speak plain http instead of https: a registry on this machine of which nothing is known. */
  readonly mayBePlain: boolean;
  /** Not the registry itself: it is told which one is meant (`?ns=`). */
  readonly isMirror: boolean;
  /** How long a connection may take to come about. */
  readonly dialTimeoutMs: number | undefined;
}

/** For messages. */
export const addressOf = ({ scheme, host, mayBePlain }: Endpoint): string => (mayBePlain ? host : `${scheme}://${host}`);

const noTls: EndpointTls = { ca: [], cert: undefined, key: undefined, skipVerify: false };
const hostKeys = ['server', 'capabilities', 'ca', 'client', 'skip_verify', 'header', 'override_path', 'dial_timeout', 'host'];

/** `localhost`, 127.0.0.0/8 and ::1, with any port: docker's insecure default. */
export function isLoopbackHost(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, '');
  return name === 'localhost' || name === '[::1]' || /^127\.[0-9]+\.[0-9]+\.[0-9]+$/.test(name);
}

/** The registry itself, when nothing is configured about it. */
function defaultEndpoint(domain: string): Endpoint {
  const isLocal = isLoopbackHost(domain);
  const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
  return {
    scheme: 'https',
    host,
    path: '/v2',
    canResolve: true,
    canPull: true,
    tls: isLocal ? { ...noTls, skipVerify: true } : noTls,
    headers: {},
    mayBePlain: isLocal,
    isMirror: false,
    dialTimeoutMs: undefined,
  };
}

/** The endpoints for a registry in the order in which they are asked. Throws Fault invalid that names the file and the key. */
export async function registryEndpoints(certsDir: string, domain: string): Promise<Endpoint[]> {
  for (const name of directoryNames(domain)) {
    const dir = join(certsDir, name);
    const text = await readConfiguration(join(dir, 'hosts.toml'));
    if (text !== undefined) return parseHosts(text, { file: join(dir, 'hosts.toml'), dir, domain });
    const tls = await dockerLayout(dir);
    if (tls !== undefined) return [{ ...defaultEndpoint(domain), mayBePlain: false, tls }];
  }
  return [defaultEndpoint(domain)];
}

/** `example.com:5000` may be written `example.com_5000_`, for systems without colons in names. */
function directoryNames(domain: string): string[] {
  const portless = domain.replace(/:([0-9]+)$/, '_$1_');
  return [...new Set([portless, domain, '_default'])];
}

async function readConfiguration(path: string): Promise<string | undefined> {
  try {
    return await readIfThere(path, 'ENOTDIR');
  } catch (error) {
    throw new Fault('invalid', `registry configuration ${path} cannot be read`, error);
  }
}

/** Docker's own layout: `*.crt` are authorities, `x.cert` with `x.key` the client. Undefined when there is none of it. */
async function dockerLayout(dir: string): Promise<EndpointTls | undefined> {
  let names: string[];
  try {
    names = (await readdir(dir)).toSorted();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
  const ca = await Promise.all(names.filter((name) => name.endsWith('.crt')).map((name) => readFile(join(dir, name), 'utf8')));
  const certName = names.find((name) => name.endsWith('.cert'));
  if (certName === undefined) return ca.length === 0 ? undefined : { ...noTls, ca };
  const keyPath = join(dir, certName.replace(/\.cert$/, '.key'));
  const key = await readConfiguration(keyPath);
  if (key === undefined) throw new Fault('invalid', `registry configuration ${join(dir, certName)}: its key ${keyPath} is missing`);
  return { ca, cert: await readFile(join(dir, certName), 'utf8'), key, skipVerify: false };
}

interface Source {
  readonly file: string;
  readonly dir: string;
  readonly domain: string;
}
type Table = Readonly<Record<string, unknown>>;
const isTable = (value: unknown): value is Table => typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);

/** Exported for its tests; `source.dir` is where relative paths in it begin. */
export async function parseHosts(text: string, source: Source): Promise<Endpoint[]> {
  let document: Table;
  try {
    document = parse(text);
  } catch (cause) {
    throw new Fault('invalid', `${source.file}: ${cause instanceof Error ? (cause.message.split('\n', 1)[0] ?? '') : String(cause)}`, cause);
  }
  const hosts = document['host'] ?? {};
  if (!isTable(hosts)) throw wrong(source, 'host', 'is not a table; write [host."https://mirror.example.com"]');
  const endpoints: Endpoint[] = [];
  for (const [url, settings] of Object.entries(hosts)) {
    if (!isTable(settings)) throw wrong(source, `host.${JSON.stringify(url)}`, 'is not a table');
    const at = hostAndPath(source, `host.${JSON.stringify(url)}`, url, settings['override_path'] === true);
    endpoints.push(await endpoint(source, `host.${JSON.stringify(url)}`, settings, { ...at, isMirror: at.host !== defaultEndpoint(source.domain).host }));
  }
  const { server } = document;
  if (server !== undefined && typeof server !== 'string') throw wrong(source, 'server', 'is not a string');
  const fallback = defaultEndpoint(source.domain);
  const isDefault = server === undefined || server === '';
  const at = isDefault ? fallback : hostAndPath(source, 'server', server, document['override_path'] === true);
  const own = await endpoint(source, 'server', document, { ...at, isMirror: at.host !== fallback.host });
  const root = isDefault && fallback.mayBePlain ? { ...own, mayBePlain: true, tls: { ...own.tls, skipVerify: true } } : own;
  return withRoot(endpoints, root);
}

/** `server` may be one of the mirrors, too: asked once, for all that either may. */
function withRoot(mirrors: readonly Endpoint[], root: Endpoint): Endpoint[] {
  const isRoot = ({ scheme, host, path }: Endpoint): boolean => scheme === root.scheme && host === root.host && path === root.path;
  if (!mirrors.some(isRoot)) return [...mirrors, root];
  return mirrors.map((mirror) => (isRoot(mirror) ? { ...mirror, canResolve: mirror.canResolve || root.canResolve, canPull: mirror.canPull || root.canPull } : mirror));
}

const wrong = (source: Source, key: string, what: string): Fault => new Fault('invalid', `${source.file}: ${key}: ${what}`);

function hostAndPath(source: Source, key: string, address: string, overridePath: boolean): Pick<Endpoint, 'scheme' | 'host' | 'path'> {
  let url: URL;
  try {
    url = new URL(/^https?:\/\//.test(address) ? address : `https://${address}`);
  } catch {
    throw wrong(source, key, `${JSON.stringify(address)} is not an address (https://mirror.example.com)`);
  }
  if (url.username !== '' || url.search !== '') throw wrong(source, key, 'must not contain a user or a query');
  const given = url.pathname.replace(/\/+$/, '');
  const path = overridePath || given.endsWith('/v2') ? given : `${given}/v2`;
  return { scheme: url.protocol === 'http:' ? 'http' : 'https', host: url.host, path };
}

async function endpoint(source: Source, key: string, settings: Table, at: Pick<Endpoint, 'scheme' | 'host' | 'path' | 'isMirror'>): Promise<Endpoint> {
  const unknown = Object.keys(settings).find((name) => !hostKeys.includes(name));
  if (unknown !== undefined) throw wrong(source, `${key}.${unknown}`, `is not known; there are ${hostKeys.join(', ')}`);
  const capabilities = words(source, `${key}.capabilities`, settings['capabilities'] ?? ['pull', 'resolve', 'push']);
  const stranger = capabilities.find((word) => !['pull', 'resolve', 'push'].includes(word));
  if (stranger !== undefined) throw wrong(source, `${key}.capabilities`, `${JSON.stringify(stranger)} is none of pull, resolve, push`);
  const skipVerify = settings['skip_verify'] ?? false;
  if (typeof skipVerify !== 'boolean') throw wrong(source, `${key}.skip_verify`, 'is neither true nor false');
  const ca = await Promise.all(words(source, `${key}.ca`, settings['ca'] ?? []).map(async (file) => {
    const pem = await readPem(source, `${key}.ca`, file);
    if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw wrong(source, `${key}.ca`, `${file} holds no certificate in PEM form`);
    return pem;
  }));
  const headers = settings['header'] ?? {};
  if (!isTable(headers)) throw wrong(source, `${key}.header`, 'is not a table');
  const { scheme, host, path, isMirror } = at;
  return {
    scheme,
    host,
    path,
    mayBePlain: false,
    isMirror,
    canResolve: capabilities.includes('resolve'),
    canPull: capabilities.includes('pull'),
    tls: { ca, ...(await client(source, `${key}.client`, settings['client'])), skipVerify },
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), words(source, `${key}.header.${name}`, value)])),
    dialTimeoutMs: duration(source, `${key}.dial_timeout`, settings['dial_timeout']),
  };
}

/** A string or a list of strings. */
function words(source: Source, key: string, value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw wrong(source, key, 'is neither a string nor a list of strings');
}

async function readPem(source: Source, key: string, file: string): Promise<string> {
  const path = isAbsolute(file) ? file : join(source.dir, file);
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new Fault('invalid', `${source.file}: ${key}: ${path} cannot be read`, cause);
  }
}

/** One file with both, several such, or a list of [certificate, key]; the first is used. */
async function client(source: Source, key: string, value: unknown): Promise<{ cert: string | undefined; key: string | undefined }> {
  if (value === undefined) return { cert: undefined, key: undefined };
  const first: unknown = Array.isArray(value) && Array.isArray(value[0]) ? value[0] : Array.isArray(value) ? value.slice(0, 1) : [value];
  const files = words(source, key, first);
  if (files.length === 0) return { cert: undefined, key: undefined };
  if (files.length > 2) throw wrong(source, key, 'a client is a certificate and a key');
  const [cert = '', keyText] = await Promise.all(files.map((file) => readPem(source, key, file)));
  return { cert, key: keyText ?? cert };
}

/** Go's notation, `300ms`, `3s`, `1m30s`. */
function duration(source: Source, key: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  if (typeof value !== 'string' || !/^(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+$/.test(value)) throw wrong(source, key, 'is not a duration such as "3s"');
  return [...value.matchAll(/([0-9.]+)(ms|s|m|h)/g)].reduce((sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ''] ?? 0), 0);
}
