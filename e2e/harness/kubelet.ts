/**
 * The stock kubelet 1.37 on somebody's CRI server, for the pairing tests.
 *
 * It writes host-wide sysctls, iptables chains and hard-coded paths (/var/lib/kubelet/device-plugins, /var/log/containers): keep-host.ts puts them back.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Cluster } from '../../hack/cluster/control-plane.ts';
import { takeLock } from '../../hack/judges/lock.ts';
import { killService, logFile, runningPid, startService, stopService, waitUntilReady, type Service } from '../../hack/cluster/processes.ts';
import { eventually } from './eventually.ts';
import { keepHostAsItIs } from './keep-host.ts';
import { cgroupHierarchies, freePorts, hostAddress, privateDir, removeEmptyFolders, removeWithMounts } from './private.ts';
import { kubectlFor } from './shell.ts';
import { judge } from './tools.ts';

export interface KubeletOptions {
  readonly cluster: Cluster;
  /** Socket of the CRI server, without unix://. */
  readonly criSocket: string;
  readonly nodeName?: string;
  /** Written over the generated KubeletConfiguration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface Kubelet extends AsyncDisposable {
  readonly nodeName: string;
  readonly dir: string;
  /** Static pod manifests go here. */
  readonly podsDir: string;
  readonly podLogsDir: string;
  readonly logFile: string;
  readonly pid: number | undefined;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Starts it and returns when its Node is Ready. Disposing deletes its pods and its Node first. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { cluster } = options;
  const { dir, id } = await privateDir('e2e-klt');
  const nodeName = options.nodeName ?? `stock-${id}`;
  const own = { nodeName, dir, podsDir: path.join(dir, 'pods'), podLogsDir: path.join(dir, 'logs'), cgroupRoot: `/e2e-${id}` };
  await using undo = new AsyncDisposableStack();
  undo.use(await takeLock('/tmp/nodelet-e2e-kubelet.lock', { onWait: (holder) => { console.error(`waiting for ${holder}, which runs a kubelet too`); } }));
  undo.defer(() => removeWithMounts(dir));
  undo.defer(() => { removeGroups(own.cgroupRoot); });
  undo.defer(await keepHostAsItIs());
  makeGroups(own.cgroupRoot);
  const service = await prepare(options, own);
  const kubectl = kubectlFor(cluster.kubeconfig);
  const ready = '{.status.conditions[?(@.type=="Ready")].status}';
  const start = async (): Promise<void> => {
    await startService(service);
    await waitUntilReady(service, async () => (await kubectl.output(['get', 'node', nodeName, '-o', `jsonpath=${ready}`])).stdout === 'True');
  };
  undo.defer(() => stopService(service));
  await start();
  undo.defer(async () => {
    if (runningPid(service) === undefined) await start();
    await kubectl.output(['delete', 'pods', '-A', '--field-selector', `spec.nodeName=${nodeName}`, '--grace-period', '2', '--timeout', '90s']);
    await eventually('all pods of the stock kubelet are gone', () => readdir(path.join(dir, 'kubelet/pods')), (pods) => pods.length === 0);
    await kubectl.output(['delete', 'node', nodeName]);
  });
  const disposal = undo.move();
  return {
    nodeName, dir, podsDir: own.podsDir, podLogsDir: own.podLogsDir, logFile: logFile(service), start,
    get pid() { return runningPid(service); },
    stop: () => stopService(service),
    kill: () => killService(service),
    [Symbol.asyncDispose]: () => disposal.disposeAsync(),
  };
}

interface Own { readonly nodeName: string; readonly dir: string; readonly podsDir: string; readonly podLogsDir: string; readonly cgroupRoot: string }

async function prepare(options: KubeletOptions, own: Own): Promise<Service> {
  const { cluster, criSocket, config } = options;
  const [port = 0, healthPort = 0] = await freePorts(2);
  for (const each of [own.podsDir, own.podLogsDir, path.join(own.dir, 'kubelet')]) await mkdir(each, { recursive: true });
  await writeFile(path.join(own.dir, 'kubelet.yaml'), JSON.stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration',
    address: hostAddress(), port, readOnlyPort: 0, healthzBindAddress: '127.0.0.1', healthzPort: healthPort,
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: cluster.caFile } }, authorization: { mode: 'Webhook' },
    failCgroupV1: false, failSwapOn: false, cgroupDriver: 'cgroupfs', cgroupRoot: own.cgroupRoot, cgroupsPerQOS: true, enforceNodeAllocatable: ['pods'],
    containerRuntimeEndpoint: `unix://${criSocket}`, clusterDomain: 'cluster.local', clusterDNS: ['10.96.0.10'], resolvConf: '/etc/resolv.conf',
    staticPodPath: own.podsDir, podLogsDir: own.podLogsDir, volumePluginDir: path.join(own.dir, 'flex-volume'), ...config,
  }));
  const kubeconfig = await cluster.nodeKubeconfig(own.nodeName);
  const args = [
    '--config', path.join(own.dir, 'kubelet.yaml'), '--kubeconfig', kubeconfig, '--cert-dir', path.join(own.dir, 'pki'),
    '--root-dir', path.join(own.dir, 'kubelet'), '--hostname-override', own.nodeName, '--node-ip', hostAddress(),
  ];
  return { name: 'kubelet', dir: own.dir, program: judge('kubelet'), args, ephemeral: true };
}

/** The kubelet wants its cgroup root to exist in every hierarchy, and cpuset groups to be filled. */
function makeGroups(name: string): void {
  for (const hierarchy of cgroupHierarchies()) {
    const group = path.join(hierarchy, name);
    mkdirSync(group, { recursive: true });
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const from = path.join(hierarchy, file);
      if (existsSync(from) && !hierarchy.endsWith('/unified')) writeFileSync(path.join(group, file), readFileSync(from));
    }
  }
}

/** Groups are empty by then: rmdir, deepest first. */
function removeGroups(name: string): void {
  for (const hierarchy of cgroupHierarchies()) removeEmptyFolders(path.join(hierarchy, name));
}
