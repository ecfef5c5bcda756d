/** The CRI servers under test: ours, containerd as the reference, and any socket that is already there. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { connectCri, type CriClient, type ListPodSandboxResponse, type VersionResponse } from '#cri-api';
import { killService, logFile, runningPid, startService, stopService, waitUntilReady, type Service } from '../cluster/processes.ts';
import { containerdConfig } from '../judges/containerd-config.ts';
import { findJudge, judgesDir } from '../judges/pins.ts';
import { cgroupHierarchies, conflist, keepAbsent, makePlace, removePlace, type Place } from './place.ts';
import { longestDelayMs } from './event-loop.ts';
import { call, Life } from './pod.ts';
import type { Registry } from '../registry.ts';

export interface Server {
  readonly name: string;
  readonly client: CriClient;
  readonly life: Life;
  readonly cgroup: string;
  readonly logDirectory: string;
  /** Undefined for a server that somebody else started: its memory cannot be told from others'. */
  readonly process: { readonly pid: number; readonly dir: string } | undefined;
  readonly version: string;
  /** kill -9 and a new start; milliseconds until it lists that many sandboxes. */
  restart(sandboxes: number): Promise<number>;
  /** How late its event loop was at most since the last question, in milliseconds; undefined where it cannot tell. */
  longestDelayMs(): Promise<number | undefined>;
  /** Its pods and, if we started it, itself and everything it made. */
  close(): Promise<void>;
}

export interface StartOptions {
  readonly runtime: 'runc' | 'crun';
  readonly registry: Registry;
  readonly ipMasq: boolean;
  readonly sandboxImage: string;
  /** For pulls: ext4 does not reuse inodes freed in the last minute, which distorts repeated ones. */
  readonly onTmpfs: boolean;
  /** Ours tells how late its event loop is, which costs a timer. */
  readonly delay: boolean;
}

const top = path.resolve(import.meta.dirname, '../..');

/** The runtime that every server gets. Throws saying what is missing. */
export function runtimePath(runtime: StartOptions['runtime']): string {
  const candidates = runtime === 'runc' ? [findJudge('runc'), '/usr/sbin/runc', '/usr/bin/runc'] : ['/usr/bin/crun', '/usr/local/bin/crun'];
  const found = candidates.find((file) => file !== undefined && existsSync(file));
  if (found === undefined) throw new Error(`${runtime} is not installed`);
  return found;
}

/** crun before 1.9 refuses a machine with both cgroup versions: there containerd runs where version 2 is not seen (nodelet hides it itself). */
function via(runtime: StartOptions['runtime']): Pick<Service, 'via'> {
  if (runtime !== 'crun' || !cgroupHierarchies().includes('/sys/fs/cgroup/unified')) return {};
  return { via: ['/usr/bin/unshare', '--mount', '--propagation', 'slave', '/bin/sh', '-c', 'umount /sys/fs/cgroup/unified && exec "$@"', '-'] };
}

interface Started {
  readonly name: string;
  readonly place: Place;
  readonly service: Service;
  readonly socket: string;
  readonly afterwards: () => void;
  readonly metricsSocket?: string | undefined;
}

/** Ready when Version answers. */
async function open(started: Started): Promise<Server> {
  const { name, place, service, socket, afterwards } = started;
  const client = connectCri(socket);
  const life = new Life(client, '');
  const close = async (): Promise<void> => {
    if (runningPid(service) !== undefined) await life.removeAll();
    client.close();
    await stopService(service);
    await removePlace(place);
    afterwards();
  };
  try {
    await startService(service);
    await waitUntilReady(service, () => call<VersionResponse>((done) => client.runtime.version({ version: 'v1' }, done)).then(() => true, () => false), 60_000);
    await waitForNetwork(client, logFile(service));
    const { runtimeVersion } = await call<VersionResponse>((done) => client.runtime.version({ version: 'v1' }, done));
    return {
      name, client, life, cgroup: place.cgroup, logDirectory: path.join(place.dir, 'logs'), version: runtimeVersion, close,
      get process() {
        const pid = runningPid(service);
        if (pid === undefined) throw new Error(`${name} ended; see ${logFile(service)}`);
        return { pid, dir: place.dir };
      },
      restart: (sandboxes) => restart(started, sandboxes),
      longestDelayMs: async () => (started.metricsSocket === undefined ? undefined : longestDelayMs(started.metricsSocket)),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function restart({ service, socket, name }: Started, sandboxes: number): Promise<number> {
  await killService(service);
  const begin = performance.now();
  await startService(service);
  for (;;) {
    // A new one each time: a channel that met a closed door waits before it knocks again.
    const client = connectCri(socket);
    try {
      const { items } = await call<ListPodSandboxResponse>((done) => client.runtime.listPodSandbox({ filter: undefined }, done));
      if (items.length === sandboxes) return performance.now() - begin;
    } catch {
      if (runningPid(service) === undefined) throw new Error(`${name} did not start again; see ${logFile(service)}`);
    } finally {
      client.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function waitForNetwork(client: CriClient, log: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const { status } = await call<{ status: { conditions: { type: string; status: boolean; message: string }[] } | undefined }>((done) => client.runtime.status({ verbose: false }, done));
    const bad = status?.conditions.find((condition) => ['RuntimeReady', 'NetworkReady'].includes(condition.type) && !condition.status);
    if (bad === undefined) return;
    if (tries > 100) throw new Error(`${bad.type} is false: ${bad.message} (log: ${log})`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function furnish(place: Place, options: StartOptions): Promise<{ confDir: string; certsDir: string }> {
  const confDir = path.join(place.dir, 'net.d');
  const certsDir = path.join(place.dir, 'certs.d');
  for (const dir of [confDir, certsDir, path.join(place.dir, 'logs')]) await mkdir(dir, { recursive: true });
  await writeFile(path.join(confDir, '10-bench.conflist'), conflist(place, options.ipMasq));
  await options.registry.writeHosts(certsDir);
  return { confDir, certsDir };
}

const cniBinDir = (): string => {
  const found = [path.join(judgesDir(), 'cni'), '/opt/cni/bin', '/usr/lib/cni'].find((dir) => existsSync(path.join(dir, 'bridge')));
  if (found === undefined) throw new Error('no CNI plugins; build them with: npm run judges -- cni');
  return found;
};

/** Our own bundle, as `nodelet cri`. `best`: with the runtime that it chooses itself. */
export async function startNodelet(options: StartOptions, best = false): Promise<Server> {
  const node = path.join(top, 'node_modules/.bin/node');
  const bundle = path.join(top, 'dist/nodelet.js');
  if (!existsSync(bundle)) throw new Error('dist/nodelet.js is missing; make it with: npm run build');
  const place = await makePlace('nlb', options);
  const { confDir, certsDir } = await furnish(place, options);
  const socket = path.join(place.dir, 'cri.sock');
  const metricsSocket = path.join(place.dir, 'metrics.sock');
  const cri = {
    rootDir: path.join(place.dir, 'root'),
    stateDir: path.join(place.dir, 'state'),
    socket,
    certsDir,
    ...(best ? {} : { runtimes: [{ name: options.runtime, path: runtimePath(options.runtime) }] }),
    cni: { confDir, binDirs: [cniBinDir()] },
    nri: { enabled: false },
    ...(options.delay ? { metrics: { address: `unix://${metricsSocket}` } } : {}),
  };
  // The configuration is YAML, which takes JSON.
  await writeFile(path.join(place.dir, 'config.yaml'), JSON.stringify({ log: { level: 'info' }, cri }));
  const flags = ['--max-semi-space-size=2', '--v8-pool-size=1', '--disable-warning=ExperimentalWarning'];
  const service: Service = {
    name: 'nodelet', dir: place.dir, program: node, args: [...flags, bundle, 'cri', '--config', path.join(place.dir, 'config.yaml')],
    // As hack/nodelet.sh does.
    env: { UV_THREADPOOL_SIZE: '16', NODE_COMPILE_CACHE: path.join(top, 'dist/cache') },
  };
  return open({ name: best ? 'nodelet (best)' : 'nodelet', place, service, socket, afterwards: () => undefined, metricsSocket: options.delay ? metricsSocket : undefined });
}

/** containerd with its shim, as a distribution would run it but for names and places. */
export async function startContainerd(options: StartOptions): Promise<Server> {
  const program = findJudge('containerd');
  if (program === undefined) throw new Error('containerd is not built; build it with: npm run judges -- cri');
  const place = await makePlace('nlb', options);
  const { confDir, certsDir } = await furnish(place, options);
  const socket = path.join(place.dir, 'containerd.sock');
  const runtime = options.runtime === 'crun' ? compatibleCrun(place) : runtimePath(options.runtime);
  await writeFile(path.join(place.dir, 'config.toml'), containerdConfig({ program: runtime, runtime: options.runtime, dir: place.dir, sandboxImage: options.sandboxImage, cniBinDir: cniBinDir(), confDir, certsDir, socket }));
  // The shim and the CNI library have fixed folders, and runc's root is below /run/containerd.
  const afterwards = keepAbsent(['/run/containerd', '/var/lib/cni']);
  const service: Service = {
    name: 'containerd', dir: place.dir, program, args: ['--config', path.join(place.dir, 'config.toml')],
    env: { PATH: `${path.dirname(program)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` }, ...via(options.runtime),
  };
  return open({ name: 'containerd', place, service, socket, afterwards });
}

/** crun 1.8 refuses the version that containerd 2 writes into config.json: a wrapper (hack/judges) puts an older one there. */
function compatibleCrun(place: Place): string {
  const program = path.join(place.dir, 'crun-compat');
  const compiled = spawnSync('gcc', ['-O2', '-o', program, `-DCRUN="${runtimePath('crun')}"`, path.join(top, 'hack/judges/crun-compat.c')], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`containerd with crun needs gcc: ${compiled.stderr ?? String(compiled.error)}`);
  return program;
}

/** A server that runs already: it keeps everything it had. */
export async function attach(name: string, socket: string): Promise<Server> {
  if (!existsSync(socket)) throw new Error(`--socket ${name}=${socket}: there is no such socket`);
  const client = connectCri(socket);
  const life = new Life(client, '');
  const { runtimeVersion } = await call<VersionResponse>((done) => client.runtime.version({ version: 'v1' }, done));
  const place = await makePlace('nlb', { onTmpfs: false });
  const close = async (): Promise<void> => {
    await life.removeAll();
    client.close();
    await removePlace(place);
  };
  const restart = (): Promise<number> => Promise.reject(new Error(`${name} is somebody else's: it is not restarted`));
  return { name, client, life, cgroup: place.cgroup, logDirectory: place.dir, process: undefined, version: runtimeVersion, restart, longestDelayMs: async () => undefined, close };
}
