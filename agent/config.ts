/**
 * The `agent:` part of the configuration: KubeletConfiguration's own names and defaults wherever it has them. A new key is one line in
 * this table; its type, its check and the default file follow from it.
 */
import { hostname } from 'node:os';
import { type ConfigOf, computed, key, live, optional, type Problem } from '#host/config/key.ts';
import { absolutePath, duration, flag, integer, listOf, readerOf, record, required, size, text, textMap } from '#host/config/readers.ts';

const nodeName = readerOf('a node name (lower case letters, digits, - and .)', (value) =>
  typeof value === 'string' && /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(value) && value.length <= 253 ? value : undefined);
const taint = record({ key: required(text, ''), value: optional(readerOf('a text', (value) => (typeof value === 'string' ? value : undefined)), 'db', ''), effect: required(text, '') });
const pidsLimit = readerOf('-1 (no limit) or a whole number of processes', (value) =>
  typeof value === 'number' && Number.isInteger(value) && value >= -1 && value <= 4_194_304 ? value : undefined);

export const agentKeys = {
  root: key(absolutePath, '/var/lib/nodelet', 'its files are below ROOT/agent'),
  nodeName: computed(nodeName, () => hostname().toLowerCase(), 'worker-1', 'default: the host name, in lower case'),
  kubeconfig: optional(absolutePath, '/etc/nodelet/kubeconfig', 'a node of the cluster that it names'),
  staticPodPath: optional(absolutePath, '/etc/nodelet/pods', 'directory or file; without kubeconfig: a standalone node, which also takes ConfigMaps and Secrets from it'),
  containerRuntimeEndpoint: key(text, 'unix:///run/nodelet/cri.sock', 'anybody\'s CRI socket'),
  podLogsDir: key(absolutePath, '/var/log/pods', ''),
  containerLogsDir: key(absolutePath, '/var/log/containers', ''),
  clusterDNS: key(listOf(text, 'a list of addresses'), [], '[10.96.0.10]: what pods with dnsPolicy ClusterFirst ask'),
  clusterDomain: key(text, 'cluster.local', ''),
  resolvConf: key(absolutePath, '/etc/resolv.conf', ''),
  cgroupRoot: key(absolutePath, '/', 'the parent of kubepods'),
  cgroupsPerQOS: key(flag, true, ''),
  cpuCFSQuota: key(flag, true, ''),
  seccompDefault: key(flag, false, 'true: pods that say nothing get RuntimeDefault'),
  maxPods: key(integer(1, 10_000), 110, ''),
  podPidsLimit: key(pidsLimit, -1, 'processes per pod; -1: no limit'),
  nodeIP: optional(text, '192.0.2.7', 'default: the address of the default route'),
  nodeLabels: key(textMap, {}, '{example.com/rack: r7}'),
  registerNode: key(flag, true, ''),
  registerWithTaints: key(listOf(taint, 'a list like [{key: dedicated, value: db, effect: NoSchedule}]'), [], '[{key: dedicated, value: db, effect: NoSchedule}]'),
  providerID: optional(text, 'example:///zone/machine', ''),
  address: key(text, '0.0.0.0', 'of the HTTPS server for logs, exec and statistics'),
  port: key(integer(0, 65_535), 10_250, ''),
  healthzBindAddress: key(text, '127.0.0.1', 'of /healthz over plain HTTP'),
  healthzPort: key(integer(0, 65_535), 10_248, '0: none'),
  clientCAFile: optional(absolutePath, '/etc/nodelet/client-ca.crt', 'authorities of client certificates; without it only tokens are accepted'),
  tlsCertFile: optional(absolutePath, '/etc/nodelet/server.crt', 'with tlsPrivateKeyFile; without: a certificate of its own making'),
  tlsPrivateKeyFile: optional(absolutePath, '/etc/nodelet/server.key', ''),
  kubeReserved: key(textMap, {}, '{cpu: 100m, memory: 200Mi}'),
  systemReserved: key(textMap, {}, ''),
  containerLogMaxSize: live(key(size, '10Mi', 'a log is rotated when it is larger')),
  containerLogMaxFiles: live(key(integer(2, 1000), 5, 'kept per container')),
  syncFrequency: key(duration, '1m', 'how often each pod is looked at when nothing happens'),
  nodeStatusUpdateFrequency: key(duration, '10s', ''),
  nodeStatusReportFrequency: key(duration, '5m', ''),
  nodeLeaseDurationSeconds: key(integer(1, 3600), 40, ''),
  maxContainerRestartPeriod: key(duration, '5m', 'the longest pause before a crashing container starts again'),
  runtimeRequestTimeout: key(duration, '2m', ''),
} as const;

export type AgentConfig = ConfigOf<typeof agentKeys>;

/** What no single key can tell. Places begin below `agent`. */
export function agentProblems({ tlsCertFile, tlsPrivateKeyFile }: AgentConfig): Problem[] {
  if ((tlsCertFile === undefined) === (tlsPrivateKeyFile === undefined)) return [];
  const [there, missing] = tlsCertFile === undefined ? ['tlsPrivateKeyFile', 'tlsCertFile'] : ['tlsCertFile', 'tlsPrivateKeyFile'];
  return [{ place: [there], message: `needs ${missing} beside it` }];
}

/** Why an agent with this configuration would have nothing to do; undefined when it has. */
export const idleReason = ({ kubeconfig, staticPodPath }: AgentConfig): string | undefined =>
  kubeconfig === undefined && staticPodPath === undefined ? 'agent: needs kubeconfig (a node of a cluster) or staticPodPath (a standalone node), or both' : undefined;
