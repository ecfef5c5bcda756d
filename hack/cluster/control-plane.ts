/** A real Kubernetes control plane on loopback: etcd, API server (Node,RBAC, NodeRestriction), controller manager, scheduler; certificates by kubeadm. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { request } from 'node:https';
import path from 'node:path';
import { promisify } from 'node:util';
import { findJudge } from '../judges/pins.ts';
import { runningPid, startService, stopService, waitUntilReady, type Service } from './processes.ts';
import { configureCluster, nodeKubeconfig } from './certificates.ts';
import { bootstrapToken, planCluster, podCidr, serviceCidr, type ClusterOptions, type Plan } from './plan.ts';

export interface Cluster extends AsyncDisposable {
  readonly dir: string;
  /** Of a cluster-admin. */
  readonly kubeconfig: string;
  readonly server: string;
  readonly caFile: string;
  /** kubeadm's, in the group system:bootstrappers:kubeadm:default-node-token. */
  readonly bootstrapToken: string;
  /** Path of a kubeconfig with a client certificate `system:node:NAME`, signed by the cluster; made on first call. */
  nodeKubeconfig(nodeName: string): Promise<string>;
  /** Ends exactly the processes that were started; the state stays. */
  stop(): Promise<void>;
  /** After `stop`: the same cluster again, on the same state. */
  start(): Promise<void>;
  /** Stops, and deletes the folder. */
  [Symbol.asyncDispose](): Promise<void>;
}

function program(name: string): string {
  const file = findJudge(name);
  if (file === undefined) throw new Error(`${name} is not built: npm run judges -- cluster`);
  return file;
}

function etcd({ dir, ports }: Plan): Service {
  const client = `http://127.0.0.1:${ports.etcd}`;
  const peer = `http://127.0.0.1:${ports.etcdPeer}`;
  return {
    name: 'etcd', dir, program: program('etcd'),
    args: [
      '--name', 'judge', '--data-dir', path.join(dir, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn',
      '--listen-client-urls', client, '--advertise-client-urls', client,
      '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `judge=${peer}`,
    ],
  };
}

function apiServer({ dir, pki, bind, advertise, ports }: Plan, more: readonly string[]): Service {
  return {
    name: 'kube-apiserver', dir, program: program('kube-apiserver'),
    args: [
      '--bind-address', bind, '--secure-port', String(ports.api), '--advertise-address', advertise,
      '--etcd-servers', `http://127.0.0.1:${ports.etcd}`, '--service-cluster-ip-range', serviceCidr, '--allow-privileged',
      '--authorization-mode', 'Node,RBAC', '--enable-admission-plugins', 'NodeRestriction', '--enable-bootstrap-token-auth',
      '--client-ca-file', `${pki}/ca.crt`, '--tls-cert-file', `${pki}/apiserver.crt`, '--tls-private-key-file', `${pki}/apiserver.key`,
      '--kubelet-client-certificate', `${pki}/apiserver-kubelet-client.crt`, '--kubelet-client-key', `${pki}/apiserver-kubelet-client.key`,
      '--kubelet-preferred-address-types', 'InternalIP,ExternalIP,Hostname',
      '--service-account-issuer', 'https://kubernetes.default.svc.cluster.local',
      '--service-account-key-file', `${pki}/sa.pub`, '--service-account-signing-key-file', `${pki}/sa.key`,
      '--requestheader-client-ca-file', `${pki}/front-proxy-ca.crt`, '--requestheader-allowed-names', 'front-proxy-client',
      '--requestheader-username-headers', 'X-Remote-User', '--requestheader-group-headers', 'X-Remote-Group',
      '--requestheader-extra-headers-prefix', 'X-Remote-Extra-',
      '--proxy-client-cert-file', `${pki}/front-proxy-client.crt`, '--proxy-client-key-file', `${pki}/front-proxy-client.key`, ...more,
    ],
  };
}

const withKubeconfig = (file: string): string[] => ['--kubeconfig', file, '--authentication-kubeconfig', file, '--authorization-kubeconfig', file];

function controllerManager({ dir, pki, ports }: Plan, more: readonly string[]): Service {
  return {
    name: 'kube-controller-manager', dir, program: program('kube-controller-manager'),
    args: [
      '--bind-address', '127.0.0.1', '--secure-port', String(ports.controllerManager), '--leader-elect=false', ...withKubeconfig(`${dir}/controller-manager.conf`),
      '--use-service-account-credentials', '--client-ca-file', `${pki}/ca.crt`, '--requestheader-client-ca-file', `${pki}/front-proxy-ca.crt`,
      '--root-ca-file', `${pki}/ca.crt`, '--cluster-signing-cert-file', `${pki}/ca.crt`, '--cluster-signing-key-file', `${pki}/ca.key`,
      '--service-account-private-key-file', `${pki}/sa.key`, '--controllers', '*,bootstrapsigner,tokencleaner',
      // it makes this folder, and its default is the host's
      '--flex-volume-plugin-dir', path.join(dir, 'flex-volume'), '--allocate-node-cidrs', '--cluster-cidr', podCidr, '--service-cluster-ip-range', serviceCidr, ...more,
    ],
  };
}

function scheduler({ dir, ports }: Plan): Service {
  return {
    name: 'kube-scheduler', dir, program: program('kube-scheduler'),
    args: ['--bind-address', '127.0.0.1', '--secure-port', String(ports.scheduler), '--leader-elect=false', ...withKubeconfig(`${dir}/scheduler.conf`)],
  };
}

/** In the order of starting. */
function components(plan: Plan, options: ClusterOptions): readonly [Service, Service, Service, Service] {
  const all = [
    etcd(plan), apiServer(plan, options.apiServerArgs ?? []), controllerManager(plan, options.controllerManagerArgs ?? []), scheduler(plan),
  ] as const;
  const [first, second, third, fourth] = all;
  const ephemeral = options.ephemeral ?? false;
  return [{ ...first, ephemeral }, { ...second, ephemeral }, { ...third, ephemeral }, { ...fourth, ephemeral }];
}

const exec = promisify(execFile);

/** Starts the cluster, or what of it is not running; returns when pods can be created (10 s fresh, 5 s on existing state). */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const plan = planCluster(options);
  const { dir, bind, ports } = plan;
  const [store, api, controllers, placement] = components(plan, options);
  const kubeconfig = path.join(dir, 'admin.conf');
  const kubectl = async (as: string, ...args: readonly string[]): Promise<string> =>
    (await exec(program('kubectl'), ['--kubeconfig', path.join(dir, as), '--cache-dir', path.join(dir, 'kubectl-cache'), ...args])).stdout;
  const succeeds = async (...args: Parameters<typeof kubectl>): Promise<boolean> => kubectl(...args).then(() => true, () => false);
  mkdirSync(dir, { recursive: true });
  const isFresh = !existsSync(path.join(dir, 'scheduler.conf'));
  if (isFresh) await configureCluster(plan, program('kubeadm'));
  await startService(store);
  await waitUntilReady(store, () => isHealthy(`http://127.0.0.1:${ports.etcd}/health`));
  await startService(api);
  await waitUntilReady(api, () => succeeds('super-admin.conf', 'get', '--raw', '/readyz'));
  await startService(controllers);
  await startService(placement);
  if (isFresh) {
    await kubectl('super-admin.conf', 'create', 'clusterrolebinding', 'kubeadm:cluster-admins', '--clusterrole', 'cluster-admin', '--group', 'kubeadm:cluster-admins');
    for (const phase of [['bootstrap-token'], ['upload-config', 'all']]) {
      await exec(program('kubeadm'), ['init', 'phase', ...phase, '--config', path.join(dir, 'kubeadm.yaml'), '--kubeconfig', kubeconfig]);
    }
  }
  await waitUntilReady(controllers, () => isHealthy(`https://127.0.0.1:${ports.controllerManager}/healthz`));
  await waitUntilReady(placement, () => isHealthy(`https://127.0.0.1:${ports.scheduler}/healthz`));
  await waitUntilReady(controllers, () => succeeds('admin.conf', 'get', 'serviceaccount', 'default'));
  const stop = (): Promise<void> => stopCluster(options);
  return {
    dir, kubeconfig, server: `https://${bind}:${ports.api}`, caFile: path.join(plan.pki, 'ca.crt'), bootstrapToken, stop,
    nodeKubeconfig: (nodeName) => nodeKubeconfig(plan, program('kubeadm'), nodeName),
    start: async () => { await startCluster(options); },
    [Symbol.asyncDispose]: () => wipeCluster(options),
  };
}

/** Ends what `startCluster` started in this folder, last started first. */
export async function stopCluster(options: ClusterOptions): Promise<void> {
  for (const service of [...components(planCluster(options), options)].reverse()) await stopService(service, 10_000);
}

export async function wipeCluster(options: ClusterOptions): Promise<void> {
  await stopCluster(options);
  await rm(path.resolve(options.dir), { recursive: true, force: true });
}

/** One line per component: pid and resident memory, or that it does not run. */
export function describeCluster(options: ClusterOptions): string[] {
  return components(planCluster(options), options).map((service) => {
    const pid = runningPid(service);
    if (pid === undefined) return `${service.name} does not run`;
    const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return `${service.name} runs, pid ${pid}, ${Math.round(Number(kib) / 1024)} MiB`;
  });
}

/** Health ports speak plain HTTP (etcd) or HTTPS with a certificate of their own making. */
async function isHealthy(url: string): Promise<boolean> {
  if (url.startsWith('http:')) return fetch(url, { signal: AbortSignal.timeout(2000) }).then((answer) => answer.ok, () => false);
  return await new Promise((resolve) => {
    const call = request(url, { rejectUnauthorized: false, timeout: 2000 }, (answer) => { answer.resume(); resolve(answer.statusCode === 200); });
    call.once('error', () => { resolve(false); }).once('timeout', () => { call.destroy(); resolve(false); }).end();
  });
}
