/** A kubeconfig file: checked field by field, then credentials for each connection through the generated client's own authentication (files re-read, tokens, exec plugins). */
import { createHash } from 'node:crypto';
import { access, readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import type { Agent } from 'node:http';
import { dirname, isAbsolute, join } from 'node:path';
import { parseDocument } from 'yaml';
import { explain, Fault } from '#host/fault.ts';

export interface Credentials {
  readonly tls: {
    readonly ca?: string | Buffer;
    readonly cert?: string | Buffer;
    readonly key?: string | Buffer;
    readonly rejectUnauthorized?: boolean;
    readonly servername?: string;
  };
  /** `authorization`, `impersonate-user`; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Changes when a new connection is needed: other certificate, key or authorities. */
  readonly fingerprint: string;
  /** Set when the cluster is reached through a proxy; then nothing else may open the connection. */
  readonly agent: Agent | undefined;
}

/** How to reach one API server. */
export interface ApiAccess {
  readonly server: URL;
  /** What to connect with now; looks at the files again, at most once a second. */
  credentials(): Promise<Credentials>;
  /** Credentials were refused: the next call fetches them anew (token file, exec plugin). */
  forget(): void;
}

type Entry = Record<string, unknown>;
interface Checked {
  readonly context: { readonly cluster: string; readonly user: string };
  readonly cluster: Entry;
  readonly user: Entry;
}

const rereadAfterMs = 1_000;

/** Throws Fault('invalid', 'FILE: FIELD: what is wrong'), also when a file named in it cannot be read. */
export async function loadKubeconfig(file: string): Promise<ApiAccess> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new Fault('invalid', `${file}: cannot be read: ${explain(cause)}`, cause);
  }
  const checked = checkKubeconfig(text, file);
  await checkNamedFiles(checked, file);
  const config = normalized(checked, dirname(file));
  const { KubeConfig } = await import('@kubernetes/client-node/dist/config.js'); // large: not for standalone nodes
  const fresh = (): InstanceType<typeof KubeConfig> => {
    const kubeConfig = new KubeConfig();
    kubeConfig.loadFromString(JSON.stringify(config));
    return kubeConfig;
  };
  let kubeConfig = fresh();
  let known: { readonly credentials: Promise<Credentials>; readonly atMs: number } | undefined;
  return {
    server: new URL(String(checked.cluster['server'])),
    credentials: async () => {
      if (known === undefined || performance.now() - known.atMs > rereadAfterMs) {
        known = { credentials: credentialsOf(kubeConfig), atMs: performance.now() };
        known.credentials.catch(() => (known = undefined));
      }
      return known.credentials;
    },
    forget: () => {
      known = undefined;
      kubeConfig = fresh();
    },
  };
}

async function credentialsOf(kubeConfig: { applyToHTTPSOptions(options: RequestOptions): Promise<void>; getCurrentCluster(): { proxyUrl?: string } | null }): Promise<Credentials> {
  const options: RequestOptions = {};
  try {
    await kubeConfig.applyToHTTPSOptions(options);
  } catch (cause) {
    throw new Fault('unauthorized', `credentials of the kubeconfig: ${explain(cause)}`, cause);
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) if (value !== undefined) headers[name.toLowerCase()] = String(value).trim();
  if (typeof options.auth === 'string') headers['authorization'] ??= `Basic ${Buffer.from(options.auth).toString('base64')}`;
  const { ca, cert, key, servername, rejectUnauthorized } = options as Credentials['tls'];
  const tls = {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
    ...(servername !== undefined && { servername }),
  };
  const hash = createHash('sha256');
  for (const part of [ca, cert, key, servername, String(rejectUnauthorized)]) hash.update(part ?? '').update('\0');
  const throughProxy = Boolean(kubeConfig.getCurrentCluster()?.proxyUrl);
  return { tls, headers, fingerprint: hash.digest('base64'), agent: throughProxy ? (options.agent as Agent) : undefined };
}

/** The current context of a kubeconfig text with its cluster and user, every field that we use looked at. */
export function checkKubeconfig(text: string, file: string): Checked {
  const fail = (field: string, problem: string): Fault => new Fault('invalid', `${file}: ${field}: ${problem}`);
  const document = parseDocument(text);
  const problem = document.errors[0];
  if (problem !== undefined) throw new Fault('invalid', `${file}: not YAML: ${problem.message.split('\n')[0] ?? ''}`);
  const root: unknown = document.toJS();
  if (!isEntry(root)) throw new Fault('invalid', `${file}: not a kubeconfig: a mapping with clusters, users and contexts is expected`);
  const named = (list: string, item: string, name: string, where: string): { entry: Entry; field: string } => {
    const entries = root[list];
    if (!Array.isArray(entries)) throw fail(list, 'missing, or not a list');
    const index = entries.findIndex((entry) => isEntry(entry) && entry['name'] === name);
    if (index < 0) throw fail(where, `"${name}" is not among the ${list}`);
    const entry: unknown = (entries[index] as Entry)[item];
    if (!isEntry(entry)) throw fail(`${list}[${index}].${item}`, 'missing');
    return { entry, field: `${list}[${index}].${item}` };
  };
  const current = root['current-context'];
  if (typeof current !== 'string' || current === '') throw fail('current-context', 'missing');
  const context = named('contexts', 'context', current, 'current-context');
  const nameIn = (key: 'cluster' | 'user'): string => {
    const value = context.entry[key];
    if (typeof value !== 'string' || value === '') throw fail(`${context.field}.${key}`, 'missing');
    return value;
  };
  const cluster = named('clusters', 'cluster', nameIn('cluster'), `${context.field}.cluster`);
  const user = named('users', 'user', nameIn('user'), `${context.field}.user`);
  checkCluster(cluster.entry, cluster.field, fail);
  checkUser(user.entry, user.field, fail);
  return { context: { cluster: nameIn('cluster'), user: nameIn('user') }, cluster: cluster.entry, user: user.entry };
}

type Fail = (field: string, problem: string) => Fault;

function checkCluster(cluster: Entry, field: string, fail: Fail): void {
  const server = cluster['server'];
  if (typeof server !== 'string' || server === '') throw fail(`${field}.server`, 'missing');
  if (!URL.canParse(server) || !/^https?:$/.test(new URL(server).protocol)) throw fail(`${field}.server`, `"${server}" is not an http or https address`);
  checkPem(cluster, 'certificate-authority-data', 'CERTIFICATE', field, fail);
  checkText(cluster, ['certificate-authority', 'tls-server-name', 'proxy-url'], field, fail);
}

function checkUser(user: Entry, field: string, fail: Fail): void {
  checkText(user, ['client-certificate', 'client-key', 'token', 'tokenFile', 'username', 'password'], field, fail);
  checkPem(user, 'client-certificate-data', 'CERTIFICATE', field, fail);
  checkPem(user, 'client-key-data', 'PRIVATE KEY', field, fail);
  const has = (name: string): boolean => user[name] !== undefined || user[`${name}-data`] !== undefined;
  if (has('client-certificate') && !has('client-key')) throw fail(`${field}.client-key`, 'missing beside the client-certificate');
  if (has('client-key') && !has('client-certificate')) throw fail(`${field}.client-certificate`, 'missing beside the client-key');
  const exec = user['exec'];
  if (exec !== undefined && (!isEntry(exec) || typeof exec['command'] !== 'string')) throw fail(`${field}.exec.command`, 'missing');
}

function checkText(entry: Entry, names: readonly string[], field: string, fail: Fail): void {
  for (const name of names) if (entry[name] !== undefined && typeof entry[name] !== 'string') throw fail(`${field}.${name}`, 'must be text');
}

function checkPem(entry: Entry, name: string, kind: string, field: string, fail: Fail): void {
  const value = entry[name];
  if (value === undefined) return;
  const pem = typeof value === 'string' ? Buffer.from(value, 'base64').toString('latin1') : '';
  if (!pem.includes('-----BEGIN ') || !pem.includes(kind)) throw fail(`${field}.${name}`, `not a base64 encoded PEM ${kind.toLowerCase()}`);
}

const fileFields = { cluster: ['certificate-authority'], user: ['client-certificate', 'client-key', 'tokenFile'] } as const;

async function checkNamedFiles(checked: Checked, file: string): Promise<void> {
  for (const part of ['cluster', 'user'] as const) {
    for (const field of fileFields[part]) {
      const named = checked[part][field];
      if (typeof named !== 'string') continue;
      const path = isAbsolute(named) ? named : join(dirname(file), named);
      try {
        await access(path, 4);
      } catch (cause) {
        throw new Fault('invalid', `${file}: ${part} "${checked.context[part]}": ${field}: ${explain(cause)}`, cause);
      }
    }
  }
}

/** The same as the generated client understands it: absolute paths, its own name for token files, what exec plugins expect in their environment. */
function normalized(checked: Checked, directory: string): unknown {
  const absolute = (path: unknown): unknown => (typeof path === 'string' && !isAbsolute(path) ? join(directory, path) : path);
  const cluster: Entry = { ...checked.cluster };
  const user: Entry = { ...checked.user };
  for (const field of fileFields.cluster) if (cluster[field] !== undefined) cluster[field] = absolute(cluster[field]);
  for (const field of fileFields.user) if (user[field] !== undefined) user[field] = absolute(user[field]);
  if (String(cluster['server']).startsWith('http:')) cluster['insecure-skip-tls-verify'] = true; // the client refuses plain http otherwise
  if (typeof user['tokenFile'] === 'string') user['auth-provider'] = { name: 'tokenFile', config: { tokenFile: user['tokenFile'] } };
  if (isEntry(user['exec'])) user['exec'] = withExecInfo(user['exec'], cluster, directory);
  const { context } = checked;
  return {
    'current-context': 'current',
    contexts: [{ name: 'current', context }],
    clusters: [{ name: context.cluster, cluster }],
    users: [{ name: context.user, user }],
  };
}

/** Source: client-go plugin/pkg/client/auth/exec: KUBERNETES_EXEC_INFO, and a command with a slash is relative to the kubeconfig. */
function withExecInfo(exec: Entry, cluster: Entry, directory: string): Entry {
  const info = {
    apiVersion: exec['apiVersion'] ?? 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    spec: { interactive: false, ...(exec['provideClusterInfo'] === true && { cluster: { server: cluster['server'], 'certificate-authority-data': cluster['certificate-authority-data'] } }) },
  };
  const command = String(exec['command']);
  const env = Array.isArray(exec['env']) ? exec['env'] : [];
  return {
    ...exec,
    command: command.includes('/') && !isAbsolute(command) ? join(directory, command) : command,
    env: [...env, { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(info) }],
  };
}

const isEntry = (value: unknown): value is Entry => typeof value === 'object' && value !== null && !Array.isArray(value);
