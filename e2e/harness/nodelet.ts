/** Our own program as a user would run it, on private folders, ports, names and subnet. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { request } from 'node:https';
import path from 'node:path';
import type { Cluster } from '../../hack/cluster/control-plane.ts';
import { killService, logFile, runningPid, startService, stopService, waitUntilReady, type Service } from '../../hack/cluster/processes.ts';
import { answers, removeAllPods } from './containerd.ts';
import type { CriOptions, CriServer } from './cri-server.ts';
import { bridgeConflist, cgroupHierarchies, deleteInterface, freePorts, freeSubnet, hostAddress, privateDir, removeEmptyFolders, removeWithMounts } from './private.ts';
import { shell } from './shell.ts';
import { bundle, cniBinDir } from './tools.ts';

export interface NodeletOptions extends CriOptions {
  readonly mode: 'run' | 'cri' | 'agent';
  /** The cluster to join, with the node's own certificate; without it the node is standalone. */
  readonly cluster?: Cluster;
  /** Default: `e2e-` and a random word. */
  readonly nodeName?: string;
  /** For mode `agent`: the socket of somebody's CRI server. */
  readonly criSocket?: string;
  /** Written over the generated `agent` section of the configuration. */
  readonly agentConfig?: Readonly<Record<string, unknown>>;
  /** false: no CNI configuration is written, the node must generate its own. */
  readonly cniConfig?: boolean;
  /** false: the bridge plugin does not masquerade, pod by pod. Default true. */
  readonly ipMasq?: boolean;
  /** Environment of the daemon. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface Nodelet extends CriServer {
  readonly name: 'nodelet';
  readonly nodeName: string;
  readonly root: string;
  readonly state: string;
  /** Static pod manifests go here. */
  readonly podsDir: string;
  /** Container logs, as /var/log/pods. */
  readonly podLogsDir: string;
  readonly configFile: string;
  /** The agent's HTTPS port, on `hostAddress()`. */
  readonly port: number;
  /** Parent of all cgroups of this node's pods, e.g. /e2e-ab12cd. */
  readonly cgroupRoot: string;
  log(): Promise<string>;
  /** `nodelet ARGS… --config …` to its end; returns stdout. */
  command(...args: readonly string[]): Promise<string>;
  /** `nodelet wipe` with the daemon stopped. */
  wipe(): Promise<void>;
}

/** Starts `nodelet run|cri|agent` and returns when it is ready: the socket answers, or (agent) the health endpoint does. A standalone node has none. */
export async function startNodelet(options: NodeletOptions): Promise<Nodelet> {
  const plan = await prepare(options);
  const { dir, service, socket } = plan;
  const start = async (): Promise<void> => {
    await startService(service);
    await waitUntilReady(service, options.mode === 'agent' ? () => isServing(plan.names.port) : () => answers(socket));
    if (options.mode === 'run' && options.cluster !== undefined) await waitUntilReady(service, () => isServing(plan.names.port));
  };
  try { await start(); } catch (e) { await plan.remove(); throw e; }
  const command = (...args: readonly string[]): Promise<string> => shell(process.execPath, [bundle, ...args, ...plan.flags]);
  const wipe = async (): Promise<void> => {
    await stopService(service);
    await command('wipe');
  };
  return {
    name: 'nodelet', ...plan.names, dir, socket, command, wipe, start, logFile: logFile(service),
    get pid() { return runningPid(service); },
    log: () => readFile(logFile(service), 'utf8'),
    stop: () => stopService(service),
    kill: () => killService(service),
    [Symbol.asyncDispose]: async () => {
      try {
        await stopService(service);
        if (options.mode === 'agent') await removeAllPods(socket); // of somebody else's server, which wipe leaves alone
        await wipe();
      } catch (e) { // what a failed wipe leaves must not disturb the next test
        if (runningPid(service) === undefined) await start();
        await removeAllPods(socket);
        throw e;
      } finally { await plan.remove(); }
    },
  };
}

/** The names and folders of one private node; nothing runs yet. */
async function prepare(options: NodeletOptions) {
  const place = await privateDir('e2e-nlt');
  const { dir, id } = place;
  const [port = 0] = await freePorts(1);
  const names = {
    nodeName: options.nodeName ?? `e2e-${id}`, root: path.join(dir, 'root'), state: path.join(dir, 'state'), podsDir: path.join(dir, 'pods'),
    podLogsDir: path.join(dir, 'logs'), certsDir: path.join(dir, 'certs.d'), configFile: path.join(dir, 'config.yaml'), cgroupRoot: `/e2e-${id}`, port,
  };
  const bridge = `nlt${id}`;
  for (const each of [names.podsDir, names.certsDir, path.join(dir, 'cni/net.d')]) await mkdir(each, { recursive: true });
  await options.writeHosts?.(names.certsDir);
  if (options.cniConfig !== false) {
    const conflist = bridgeConflist({ name: `e2e-${id}`, bridge, subnet: freeSubnet(), dataDir: path.join(dir, 'cni/ipam'), ipMasq: options.ipMasq ?? true });
    await writeFile(path.join(dir, 'cni/net.d/10-e2e.conflist'), conflist);
  }
  const socket = options.mode === 'agent' ? options.criSocket ?? '' : path.join(dir, 'cri.sock');
  if (options.mode === 'agent' && !existsSync(socket)) throw new Error('mode agent needs criSocket, the socket of a running CRI server');
  const kubeconfig = await options.cluster?.nodeKubeconfig(names.nodeName);
  await writeFile(names.configFile, JSON.stringify(configuration(options, { dir, socket, bridge, kubeconfig, ...names }), undefined, 1));
  const flags = ['--config', names.configFile];
  const service: Service = { name: 'nodelet', dir, program: process.execPath, args: [bundle, options.mode, ...flags], ephemeral: true, env: options.env ?? {} };
  const remove = async (): Promise<void> => {
    await stopService(service);
    await deleteInterface(bridge);
    // Of the machine's administrator where a cgroupRoot is configured, so `wipe` leaves it.
    for (const hierarchy of cgroupHierarchies()) removeEmptyFolders(path.join(hierarchy, names.cgroupRoot));
    await removeWithMounts(dir);
  };
  return { dir, names, socket, service, flags, remove };
}

interface Private {
  readonly dir: string; readonly socket: string; readonly root: string; readonly state: string; readonly podsDir: string; readonly podLogsDir: string;
  readonly certsDir: string; readonly nodeName: string; readonly cgroupRoot: string; readonly port: number; readonly bridge: string; readonly kubeconfig: string | undefined;
}

/** The configuration file (YAML takes JSON). */
function configuration(options: NodeletOptions, own: Private): object {
  const { cluster, runtime } = options;
  const { nri, cni, ...config } = options.config ?? {};
  const cri = {
    rootDir: own.root, stateDir: own.state, socket: path.join(own.dir, 'cri.sock'), certsDir: own.certsDir, ...(runtime === undefined ? {} : { defaultRuntime: runtime }),
    nri: { socket: path.join(own.dir, 'nri.sock'), pluginDir: path.join(own.dir, 'nri-plugins'), pluginConfigDir: path.join(own.dir, 'nri-conf.d'), ...(nri as object | undefined) },
    cni: {
      confDir: path.join(own.dir, 'cni/net.d'), binDirs: [cniBinDir()], bridge: own.bridge, ...(options.cniConfig === false ? { podCidrs: [freeSubnet()] } : {}),
      ...(cni as object | undefined),
    },
    ...config,
  };
  const agent = {
    root: own.root, containerRuntimeEndpoint: `unix://${own.socket}`, nodeName: own.nodeName, staticPodPath: own.podsDir, podLogsDir: own.podLogsDir,
    containerLogsDir: path.join(own.dir, 'container-logs'), cgroupRoot: own.cgroupRoot, address: hostAddress(), port: own.port, healthzPort: 0, nodeIP: hostAddress(),
    ...(cluster === undefined ? {} : { kubeconfig: own.kubeconfig, clientCAFile: cluster.caFile }), ...options.agentConfig,
  };
  // both parts always: `wipe` reads both, and must not find the machine's own places
  return { log: { level: 'debug' }, cri, agent };
}

/** True when the agent's HTTPS server answers anything: without a client certificate that is a refusal. */
async function isServing(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const call = request(`https://${hostAddress()}:${port}/healthz`, { rejectUnauthorized: false, timeout: 2000 }, (answer) => { answer.resume(); resolve(true); });
    call.once('error', () => { resolve(false); }).once('timeout', () => { call.destroy(); resolve(false); }).end();
  });
}
