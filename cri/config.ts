/** The `cri:` part of the configuration. A new key is one line in this table; its type, its check and the default file follow from it. */
import { type ConfigOf, key, live, optional, type Problem, section } from '#host/config/key.ts';
import { absolutePath, duration, flag, integer, listOf, oneOf, readerOf, record, required, size, text } from '#host/config/readers.ts';
import { parseAddress } from '#host/listen-address.ts';

const listenAddress = readerOf('host:port or unix:///path', (value) => (typeof value === 'string' && parseAddress(value) !== undefined ? value : undefined));

export const criKeys = {
  rootDir: key(absolutePath, '/var/lib/nodelet', 'survives a reboot: images, layers, records'),
  stateDir: key(absolutePath, '/run/nodelet', 'does not: sockets, namespaces; at most 27 characters'),
  socket: key(absolutePath, '/run/nodelet/cri.sock', 'where the CRI is served (default: cri.sock in stateDir)'),
  certsDir: key(absolutePath, '/etc/nodelet/certs.d', 'HOST/hosts.toml: mirrors and certificates per registry, in containerd\'s format; read at each pull'),
  cgroupDriver: key(oneOf('cgroupfs', 'systemd'), 'cgroupfs', 'cgroupfs or systemd'),
  runtimes: live(key(
    listOf(record({
      name: required(text, 'the handler that a RuntimeClass names'),
      path: required(absolutePath, 'a program with runc\'s command line'),
      privilegedWithoutHostDevices: key(flag, false, 'privileged containers get only the devices that they name'),
    }), 'a list like [{name: runc, path: /usr/sbin/runc}]'), [],
    'empty: crun and runc where they work, crun first. Else: [{name: runc, path: /usr/sbin/runc}]')),
  defaultRuntime: live(optional(text, 'crun', 'the handler of pods without a RuntimeClass (default: the first that works)')),
  conmon: key(text, 'conmon', 'a name on PATH or a path'),
  podInit: key(text, 'catatonit', 'the init of pods that share their process namespace; pauses with -P, as catatonit does'),
  cdiSpecDirs: key(listOf(absolutePath), ['/etc/cdi', '/var/run/cdi'], 'files that describe the devices of the Container Device Interface; the last directory wins'),
  runtimeTimeout: key(duration, '4m', 'for one call of the OCI runtime: then it is killed with what it started'),
  cni: section('', {
    timeout: key(duration, '2m', 'for the plugins of a pod together, and for STATUS and GC'),
    confDir: live(key(absolutePath, '/etc/cni/net.d', 'the first valid file in it is the network of pods')),
    binDirs: live(key(listOf(absolutePath), ['/opt/cni/bin', '/usr/lib/cni'], 'where plugins are searched, in this order')),
    podCidrs: key(listOf(text), [], 'a bridge for these while confDir is empty. In a cluster the agent learns them; standalone: 10.86.0.0/24'),
    generate: key(flag, true, 'false: never make that bridge, for a cluster whose network add-on comes late'),
    bridge: key(text, 'nodelet0', 'that bridge\'s name'),
  }),
  images: section('', {
    parallelDownloads: live(key(integer(1, 64), 3, 'layers of one image that are fetched at the same time')),
    parallelUnpacks: optional(integer(1, 64), 2, 'layers of all images that are unpacked at the same time (default: one per processor, at least 2, at most 16)'),
    connectionsPerBlob: live(key(integer(1, 32), 4, 'a big layer that comes slowly is fetched over so many connections, by range requests; 1: never')),
    connectionsPerRegistry: live(key(integer(1, 256), 16, 'connections that fetch layers from one registry, for all pulls together')),
    progressTimeout: live(key(duration, '5m', 'a pull to which no byte came for this long has failed; the time that unpacking takes does not count')),
    maxImageSize: key(size, '512Gi', 'an image that unpacks to more is refused'),
    pinned: live(key(listOf(text), [], 'references of images that no garbage collection may remove, like registry.k8s.io/pause:3.10')),
    credentialsFile: live(optional(absolutePath, '/etc/nodelet/registries.json', 'auths in the format of docker\'s config.json, for pulls without a secret; read at each pull (default: none)')),
  }),
  metrics: section('', {
    address: optional(listenAddress, '127.0.0.1:9117', 'metrics for Prometheus at /metrics: host:port, or unix:///path for its owner alone (default: none)'),
  }),
  tracing: section('', {
    endpoint: optional(text, '127.0.0.1:4317', 'a span per call goes to this OpenTelemetry collector, by OTLP over gRPC without TLS (default: none)'),
    samplingRatePerMillion: key(integer(0, 1_000_000), 0, 'of calls that come without a trace; with one, the caller decides'),
  }),
  streaming: section('', {
    address: key(text, '127.0.0.1', 'where exec, attach and port-forward are served; the kubelet connects to it'),
    port: key(integer(0, 65535), 0, '0: a free one'),
    tlsCert: optional(absolutePath, '/etc/nodelet/streaming.crt', 'PEM; with tlsKey, streams are encrypted'),
    tlsKey: optional(absolutePath, '/etc/nodelet/streaming.key', 'PEM'),
    idleTimeout: live(key(duration, '4h', 'a stream on which nothing moves for so long is closed')),
  }),
  nri: section('Node Resource Interface: plugins with a say in what becomes of pods and containers. Defaults as containerd\'s.', {
    enabled: key(flag, true, 'without plugins it costs nothing'),
    socket: key(absolutePath, '/var/run/nri/nri.sock', 'where plugins come; for root only'),
    disableConnections: key(flag, false, 'true: only the plugins of pluginDir'),
    pluginDir: key(absolutePath, '/opt/nri/plugins', 'started with nodelet, in this order: 10-name'),
    pluginConfigDir: key(absolutePath, '/etc/nri/conf.d', 'their configuration: 10-name.conf or name.conf'),
    registrationTimeout: key(duration, '5s', 'after that a plugin that has not registered, or taken in the state, is let go'),
    requestTimeout: key(duration, '2s', 'after that a plugin that has not answered is let go, and the work goes on without it'),
    defaultValidator: section('What plugins may not change.', {
      enable: key(flag, false, 'the rest counts only then'),
      rejectOCIHookAdjustment: key(flag, false, 'OCI hooks'),
      rejectRuntimeDefaultSeccompAdjustment: key(flag, false, 'seccomp where it is RuntimeDefault'),
      rejectUnconfinedSeccompAdjustment: key(flag, false, 'seccomp where it is Unconfined'),
      rejectCustomSeccompAdjustment: key(flag, false, 'seccomp where it is Localhost'),
      rejectNamespaceAdjustment: key(flag, false, 'namespaces'),
      rejectSysctlAdjustment: key(flag, false, 'sysctls'),
      requiredPlugins: key(listOf(text), [], 'plugins without which no container is created'),
      tolerateMissingPluginsAnnotation: optional(text, 'example.com/tolerate-missing-plugins', 'the annotation of pods that go without them'),
    }),
  }),
} as const;

export type CriConfig = ConfigOf<typeof criKeys>;

/** What no single key can tell. Places begin below `cri`. */
export function criProblems({ runtimes, defaultRuntime, stateDir, streaming }: CriConfig): Problem[] {
  const problems: Problem[] = [];
  if (defaultRuntime !== undefined && runtimes.length > 0 && !runtimes.some(({ name }) => name === defaultRuntime)) {
    problems.push({ place: ['defaultRuntime'], message: `${JSON.stringify(defaultRuntime)} is not among cri.runtimes, which has ${runtimes.map(({ name }) => name).join(', ')}` });
  }
  const twice = runtimes.findIndex(({ name }, index) => runtimes.findIndex((other) => other.name === name) !== index);
  if (twice >= 0) problems.push({ place: ['runtimes', twice, 'name'], message: `${JSON.stringify(runtimes[twice]?.name)} is there twice` });
  // conmon's attach socket is <stateDir>/conmon/<64 hex>/attach, and a unix socket's path ends at 107 bytes.
  if (`${stateDir}/conmon`.length > 107 - 73) problems.push({ place: ['stateDir'], message: 'must be at most 27 characters long, for it holds unix sockets' });
  if ((streaming.tlsCert === undefined) !== (streaming.tlsKey === undefined)) problems.push({ place: ['streaming'], message: 'tlsCert and tlsKey go together' });
  return problems;
}
