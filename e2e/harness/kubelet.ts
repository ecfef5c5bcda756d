/**
 * The stock kubelet 1.37 on somebody's CRI server, for the pairing tests.
 *
 * It writes host-wide sysctls and has hard-coded paths (/var/lib/kubelet/device-plugins, /var/log/containers): both are put back as they were.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Cluster } from '../../hack/cluster/control-plane.ts';
import { killService, logFile, runningPid, startService, stopService, waitUntilReady, type Service } from '../../hack/cluster/processes.ts';
import { eventually } from './eventually.ts';
import { cgroupHierarchies, freePorts, privateDir, removeEmptyFolders, removeWithMounts } from './private.ts';
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

/** The kubelet sets these (protectKernelDefaults: false); no namespace holds them. */
const tunables = ['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops', 'kernel/keys/root_maxkeys', 'kernel/keys/root_maxbytes'];
const hardCoded = ['/var/lib/kubelet', '/var/log/containers'];

/** Starts it and returns when its Node is Ready. Disposing deletes its pods and its Node first. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { cluster } = options;
  const { dir, id } = await privateDir('e2e-klt');
  const nodeName = options.nodeName ?? `stock-${id}`;
  const own = { nodeName, dir, podsDir: path.join(dir, 'pods'), podLogsDir: path.join(dir, 'logs'), cgroupRoot: `/e2e-${id}` };
  await using undo = new AsyncDisposableStack();
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
    address: '127.0.0.1', port, readOnlyPort: 0, healthzBindAddress: '127.0.0.1', healthzPort: healthPort,
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: cluster.caFile } }, authorization: { mode: 'Webhook' },
    failCgroupV1: false, failSwapOn: false, cgroupDriver: 'cgroupfs', cgroupRoot: own.cgroupRoot, cgroupsPerQOS: true, enforceNodeAllocatable: ['pods'],
    containerRuntimeEndpoint: `unix://${criSocket}`, clusterDomain: 'cluster.local', clusterDNS: ['10.96.0.10'], resolvConf: '/etc/resolv.conf',
    staticPodPath: own.podsDir, podLogsDir: own.podLogsDir, ...config,
  }));
  const kubeconfig = await cluster.nodeKubeconfig(own.nodeName);
  const args = [
    '--config', path.join(own.dir, 'kubelet.yaml'), '--kubeconfig', kubeconfig, '--cert-dir', path.join(own.dir, 'pki'),
    '--root-dir', path.join(own.dir, 'kubelet'), '--hostname-override', own.nodeName, '--node-ip', '127.0.0.1',
  ];
  return { name: 'kubelet', dir: own.dir, program: judge('kubelet'), args, ephemeral: true };
}

/** Returns what puts the sysctls and the hard-coded folders back. */
async function keepHostAsItIs(): Promise<() => Promise<void>> {
  const values = tunables.map((name) => `/proc/sys/${name}`).filter((file) => existsSync(file)).map((file) => [file, readFileSync(file, 'utf8')] as const);
  const before = await Promise.all(hardCoded.map(async (dir) => [dir, await tree(dir)] as const));
  return async () => {
    for (const [file, value] of values) if (readFileSync(file, 'utf8') !== value) writeFileSync(file, value);
    for (const [dir, known] of before) {
      for (const each of (await tree(dir)).filter((file) => !known.includes(file)).reverse()) await rm(each, { force: true, recursive: false }).catch(() => { rmdirSync(each); });
    }
  };
}

/** The folder and all below it, parents first; nothing when it is not there. */
async function tree(dir: string): Promise<string[]> {
  if (!existsSync(dir)) return [];
  return [dir, ...(await readdir(dir, { recursive: true })).map((each) => path.join(dir, each)).sort()];
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
