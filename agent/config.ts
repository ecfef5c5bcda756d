/** The `agent:` part of the configuration: KubeletConfiguration's own names and defaults wherever it has them. */
import { hostname } from 'node:os';
import { Fault } from '#host/fault.ts';
import { wholeFrom } from './kube/quantity.ts';

export interface AgentConfig {
  /** nodelet's root; the agent's files are below `<root>/agent`. */
  readonly root: string;
  readonly nodeName: string;
  /** Absent: a standalone node, no API server. */
  readonly kubeconfig: string | undefined;
  readonly containerRuntimeEndpoint: string;
  /** A directory or one file. Standalone nodes also take ConfigMaps and Secrets from it. */
  readonly staticPodPath: string | undefined;
  readonly podLogsDir: string;
  readonly containerLogsDir: string;
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  readonly resolvConf: string;
  readonly cgroupRoot: string;
  readonly cgroupsPerQOS: boolean;
  readonly cpuCFSQuota: boolean;
  readonly seccompDefault: boolean;
  readonly maxPods: number;
  readonly podPidsLimit: number;
  readonly nodeIP: string | undefined;
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly registerNode: boolean;
  readonly registerWithTaints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  readonly providerID: string | undefined;
  readonly address: string;
  readonly port: number;
  readonly clientCAFile: string | undefined;
  readonly tlsCertFile: string | undefined;
  readonly tlsPrivateKeyFile: string | undefined;
  readonly kubeReserved: Readonly<Record<string, string>>;
  readonly systemReserved: Readonly<Record<string, string>>;
  readonly containerLogMaxSize: string;
  readonly containerLogMaxFiles: number;
  readonly syncFrequencyMs: number;
  readonly nodeStatusUpdateFrequencyMs: number;
  readonly nodeStatusReportFrequencyMs: number;
  readonly nodeLeaseDurationSeconds: number;
  readonly maxContainerRestartPeriodMs: number;
  readonly runtimeRequestTimeoutMs: number;
}

type Reader<T> = (value: unknown, where: string) => T;

/** `where` is `FILE: agent.KEY`; whoever reads the message can go straight to the line. */
const refuse = (where: string, what: string): Fault => new Fault('invalid', `${where}: ${what}`);

const text: Reader<string> = (value, where) => {
  if (typeof value !== 'string' || value === '') throw refuse(where, 'must be a non-empty string');
  return value;
};
const flag: Reader<boolean> = (value, where) => {
  if (typeof value !== 'boolean') throw refuse(where, 'must be true or false');
  return value;
};
const integer =
  (least: number, most: number): Reader<number> =>
  (value, where) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) throw refuse(where, `must be a whole number from ${least} to ${most}`);
    return value;
  };
const path: Reader<string> = (value, where) => {
  const found = text(value, where);
  if (!found.startsWith('/')) throw refuse(where, `must be an absolute path, not ${JSON.stringify(found)}`);
  return found;
};
const texts: Reader<readonly string[]> = (value, where) => {
  if (!Array.isArray(value)) throw refuse(where, 'must be a list of strings');
  return value.map((item, index) => text(item, `${where}[${index}]`));
};
const textMap: Reader<Readonly<Record<string, string>>> = (value, where) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(where, 'must be a map of strings');
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (typeof item === 'number') return [key, String(item)];
      if (typeof item !== 'string') throw refuse(`${where}.${key}`, 'must be a string');
      return [key, item];
    }),
  );
};
const duration: Reader<number> = (value, where) => {
  const parsed = typeof value === 'string' ? durationMs(value) : undefined;
  if (parsed === undefined) throw refuse(where, 'must be a duration like 10s, 1m30s or 500ms');
  return parsed;
};
const size: Reader<string> = (value, where) => {
  const quantity = wholeFrom(typeof value === 'number' ? String(value) : text(value, where));
  if (quantity === undefined || quantity <= 0n) throw refuse(where, `${JSON.stringify(value)} is no size; write it like 10Mi`);
  return String(value);
};
const taints: Reader<AgentConfig['registerWithTaints']> = (value, where) => {
  if (!Array.isArray(value)) throw refuse(where, 'must be a list of taints');
  return value.map((item: unknown, index) => {
    const taint = section(item, `${where}[${index}]`);
    const effect = text(taint['effect'], `${where}[${index}].effect`);
    const key = text(taint['key'], `${where}[${index}].key`);
    return { key, effect, ...(typeof taint['value'] === 'string' && { value: taint['value'] }) };
  });
};
const nodeName: Reader<string> = (value, where) => {
  const found = text(value, where);
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(found) || found.length > 253) throw refuse(where, `${JSON.stringify(found)} is no node name (lower case letters, digits, '-' and '.')`);
  return found;
};

const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's duration syntax (`1h30m`, `1.5s`) in milliseconds; undefined when it is none. */
function durationMs(value: string): number | undefined {
  if (value === '0') return 0;
  let total = 0;
  let rest = value;
  while (rest !== '') {
    const part = /^(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/.exec(rest);
    const unit = units[part?.[2] ?? ''];
    if (part?.[1] === undefined || unit === undefined) return undefined;
    total += Number(part[1]) * unit;
    rest = rest.slice(part[0].length);
  }
  return value === '' ? undefined : total;
}

function section(value: unknown, where: string): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw refuse(where, 'must be a map');
  return { ...value };
}

/** Every key with its reader and default; a key not in this table is refused by name. */
const table = {
  root: [path, '/var/lib/nodelet'],
  nodeName: [nodeName, () => hostname().toLowerCase()],
  kubeconfig: [path, undefined],
  containerRuntimeEndpoint: [text, 'unix:///run/nodelet/cri.sock'],
  staticPodPath: [path, undefined],
  podLogsDir: [path, '/var/log/pods'],
  containerLogsDir: [path, '/var/log/containers'],
  clusterDNS: [texts, []],
  clusterDomain: [text, 'cluster.local'],
  resolvConf: [path, '/etc/resolv.conf'],
  cgroupRoot: [path, '/'],
  cgroupsPerQOS: [flag, true],
  cpuCFSQuota: [flag, true],
  seccompDefault: [flag, false],
  maxPods: [integer(1, 10_000), 110],
  podPidsLimit: [integer(-1, 4_194_304), -1],
  nodeIP: [text, undefined],
  nodeLabels: [textMap, {}],
  registerNode: [flag, true],
  registerWithTaints: [taints, []],
  providerID: [text, undefined],
  address: [text, '0.0.0.0'],
  port: [integer(0, 65_535), 10_250],
  clientCAFile: [path, undefined],
  tlsCertFile: [path, undefined],
  tlsPrivateKeyFile: [path, undefined],
  kubeReserved: [textMap, {}],
  systemReserved: [textMap, {}],
  containerLogMaxSize: [size, '10Mi'],
  containerLogMaxFiles: [integer(2, 1000), 5],
  syncFrequency: [duration, 60_000],
  nodeStatusUpdateFrequency: [duration, 10_000],
  nodeStatusReportFrequency: [duration, 300_000],
  nodeLeaseDurationSeconds: [integer(1, 3600), 40],
  maxContainerRestartPeriod: [duration, 300_000],
  runtimeRequestTimeout: [duration, 120_000],
} as const satisfies Record<string, readonly [Reader<unknown>, unknown]>;

type Table = typeof table;
type Value<Entry> = Entry extends readonly [Reader<infer T>, infer Default] ? T | (Default extends undefined ? undefined : never) : never;

/**
 * `raw` is the value of the key `agent` (undefined = all defaults), `file` only names the source in messages.
 * Throws Fault('invalid', 'FILE: agent.KEY: what is wrong').
 */
export function parseAgentConfig(raw: unknown, file: string): AgentConfig {
  const given = section(raw, `${file}: agent`);
  for (const key of Object.keys(given)) if (!(key in table)) throw refuse(`${file}: agent.${key}`, 'unknown key');
  const read = <Key extends keyof Table>(key: Key): Value<Table[Key]> => {
    const [reader, byDefault] = table[key];
    const value = given[key];
    const found: unknown = value === undefined || value === null ? (typeof byDefault === 'function' ? byDefault() : byDefault) : reader(value, `${file}: agent.${key}`);
    return found as Value<Table[Key]>; // the reader of this key or its default, as the table's type says
  };
  const config: AgentConfig = {
    root: read('root'), nodeName: read('nodeName'), kubeconfig: read('kubeconfig'), containerRuntimeEndpoint: read('containerRuntimeEndpoint'),
    staticPodPath: read('staticPodPath'), podLogsDir: read('podLogsDir'), containerLogsDir: read('containerLogsDir'),
    clusterDNS: read('clusterDNS'), clusterDomain: read('clusterDomain'), resolvConf: read('resolvConf'),
    cgroupRoot: read('cgroupRoot'), cgroupsPerQOS: read('cgroupsPerQOS'), cpuCFSQuota: read('cpuCFSQuota'), seccompDefault: read('seccompDefault'),
    maxPods: read('maxPods'), podPidsLimit: read('podPidsLimit'),
    nodeIP: read('nodeIP'), nodeLabels: read('nodeLabels'), registerNode: read('registerNode'), registerWithTaints: read('registerWithTaints'), providerID: read('providerID'),
    address: read('address'), port: read('port'), clientCAFile: read('clientCAFile'), tlsCertFile: read('tlsCertFile'), tlsPrivateKeyFile: read('tlsPrivateKeyFile'),
    kubeReserved: read('kubeReserved'), systemReserved: read('systemReserved'),
    containerLogMaxSize: read('containerLogMaxSize'), containerLogMaxFiles: read('containerLogMaxFiles'),
    syncFrequencyMs: read('syncFrequency'), nodeStatusUpdateFrequencyMs: read('nodeStatusUpdateFrequency'), nodeStatusReportFrequencyMs: read('nodeStatusReportFrequency'),
    nodeLeaseDurationSeconds: read('nodeLeaseDurationSeconds'), maxContainerRestartPeriodMs: read('maxContainerRestartPeriod'),
    runtimeRequestTimeoutMs: read('runtimeRequestTimeout'),
  };
  if (config.kubeconfig === undefined && config.staticPodPath === undefined) {
    throw refuse(`${file}: agent`, 'needs kubeconfig (a node of a cluster) or staticPodPath (a standalone node), or both');
  }
  if ((config.tlsCertFile === undefined) !== (config.tlsPrivateKeyFile === undefined)) throw refuse(`${file}: agent.tlsCertFile`, 'and tlsPrivateKeyFile belong together');
  return config;
}
