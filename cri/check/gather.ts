/** Looks at the machine. Whatever it makes to try things out lies in one scratch directory and one cgroup, and is removed again. */
import { mkdir, mkdtemp, stat } from 'node:fs/promises';
import { hostname, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { Cni } from '#cni';
import { slowMoves } from '#host/cgroup-moves.ts';
import { openCgroups } from '#host/cgroup.ts';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { fileSystemRoom } from '#host/disk.ts';
import { findProgram, run } from '#host/exec.ts';
import { explain } from '#host/fault.ts';
import { isClockSynchronised } from '#host/libc.ts';
import { overlayMount, unmount } from '#host/mount.ts';
import { mountOf } from '#host/mountinfo.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { CriConfig } from '../config.ts';
import { tryRuntimes } from '../oci/probe.ts';
import type { CgroupFacts, HostFacts, NetworkFacts, Runtime, StorageFacts } from './facts.ts';
import { findVersion, programTimeoutMs } from './program.ts';
import { kernelFacts, listenersOn, openFileLimits, readText, systemName } from './read-proc.ts';

const scratchBase = '/run';

/** Everything there is to know; a thing that cannot be found out is a fact too, so nothing here throws but a defect or the end of `ctx`. */
export async function gatherFacts(ctx: Ctx, config: CriConfig, ports: readonly number[]): Promise<HostFacts> {
  const isRoot = process.getuid?.() === 0;
  const scratch = await mkdtemp(join(isRoot ? scratchBase : '/tmp', 'nodelet-check-'));
  try {
    // The trial overlay first: it loads the module that the list of file systems shows then.
    const storage = await storageFacts(config.rootDir);
    const [conmon, podInit, iptables, criu] = await Promise.all([
      findVersion(ctx, config.conmon), findVersion(ctx, config.podInit), findVersion(ctx, 'iptables'), findVersion(ctx, 'criu'),
    ]);
    return {
      isRoot, storage, hostName: hostname(), system: await systemName(),
      kernel: await kernelFacts(await findProgram('apparmor_parser') !== undefined),
      cgroup: await cgroupFacts(ctx),
      runtimes: await runtimeFacts(ctx, config, scratch),
      conmon, podInit, iptables, criu,
      network: await networkFacts(ctx, config, scratch, iptables.path),
      swapBytes: await swapBytes(),
      memoryBytes: totalmem(),
      openFiles: await openFileLimits(),
      listeners: await listenersOn(ports),
      isClockSynchronised: clockState(),
      nowMs: Date.now(),
    };
  } finally {
    await removeTree(scratch);
  }
}

const trialGroup = (): string => `/nodelet-check-${process.pid}`;

async function cgroupFacts(ctx: Ctx): Promise<CgroupFacts> {
  let cgroups;
  try {
    cgroups = openCgroups();
  } catch (error) {
    return { layout: 'none', controllers: [], makeFailure: explain(error) };
  }
  const mount = (await mountOf('/sys/fs/cgroup/unified').catch(() => undefined))?.type;
  const layout = cgroups.version === 2 ? 'v2' : mount === 'cgroup2' ? 'hybrid' : 'v1';
  let makeFailure: string | undefined;
  try {
    await cgroups.create(trialGroup());
    await cgroups.remove(ctx, trialGroup());
  } catch (error) {
    ctx.signal.throwIfAborted();
    makeFailure = explain(error);
  }
  return { layout, controllers: [...cgroups.controllers], makeFailure };
}

async function runtimeFacts(ctx: Ctx, config: CriConfig, scratch: string): Promise<Runtime[]> {
  let tried: readonly Runtime[];
  try {
    tried = await tryRuntimes(ctx, {
      configured: config.runtimes, cgroupDriver: config.cgroupDriver, cgroupParent: config.cgroupDriver === 'systemd' ? 'system.slice' : '',
      stateDir: scratch, ociRootDir: (handler) => join(scratch, handler), cgroups: openCgroups(), moves: slowMoves, timeoutMs: config.runtimeTimeoutMs,
    });
  } catch (error) {
    ctx.signal.throwIfAborted();
    // No cgroups at all, which has its own line.
    tried = [{ name: 'OCI runtimes', path: '/', version: '', failure: explain(error) }];
  }
  const absent = config.runtimes.length > 0 ? [] : ['crun', 'runc'].filter((name) => !tried.some((each) => each.name === name));
  return [...tried, ...absent.map((name) => ({ name, path: undefined, version: '', failure: undefined }))];
}

async function storageFacts(rootDir: string): Promise<StorageFacts> {
  let dir = rootDir;
  while (!(await stat(dir).then((found) => found.isDirectory(), () => false)) && dir !== '/') dir = dirname(dir);
  return { dir, fileSystem: (await mountOf(dir))?.type ?? '', ...(await fileSystemRoom(dir)), overlayFailure: await tryOverlay(dir) };
}

async function tryOverlay(dir: string): Promise<string | undefined> {
  let trial: string;
  try {
    trial = await mkdtemp(join(dir, '.nodelet-check-'));
  } catch (error) {
    return explain(error);
  }
  const [lower = '', upper = '', work = '', target = ''] = ['lower', 'upper', 'work', 'target'].map((name) => join(trial, name));
  try {
    for (const each of [lower, upper, work, target]) await mkdir(each);
    await overlayMount({ target, lower: [lower], upper, work });
    // An upper directory that cannot be written shows only now.
    await mkdir(join(target, 'written'));
    return undefined;
  } catch (error) {
    return explain(error);
  } finally {
    await unmount(target).catch(() => undefined); // not root: never mounted
    await removeTree(trial);
  }
}

async function networkFacts(ctx: Ctx, config: CriConfig, scratch: string, iptables: string | undefined): Promise<NetworkFacts> {
  const looking = new AbortController();
  const own: Ctx = { ...ctx, signal: AbortSignal.any([ctx.signal, looking.signal]) };
  const cni = new Cni({ ...config.cni, cacheDir: join(scratch, 'cni'), defaultNetwork: { podCidrs: config.cni.podCidrs, bridge: config.cni.bridge }, masquerade: false });
  let status: NetworkFacts['status'];
  try {
    await cni.start(own);
    status = cni.status();
  } catch (error) {
    ctx.signal.throwIfAborted();
    status = { ready: false, message: explain(error) };
  } finally {
    looking.abort();
  }
  const routes = await readText('/proc/net/route');
  return {
    confDir: config.cni.confDir, binDirs: config.cni.binDirs, status,
    isGenerated: status.ready && !status.source.startsWith(config.cni.confDir),
    defaultRoute: routes.split('\n').some((row) => row.split('\t')[1] === '00000000'),
    natFailure: iptables === undefined ? undefined : await natFailure(ctx, iptables),
  };
}

async function natFailure(ctx: Ctx, path: string): Promise<string | undefined> {
  try {
    const { exitCode, stderr } = await run(withTimeout(ctx, programTimeoutMs), { path, args: ['-w', '5', '-t', 'nat', '-S'] });
    return exitCode === 0 ? undefined : stderr.toString('utf8').trim().split('\n')[0];
  } catch (error) {
    ctx.signal.throwIfAborted();
    return explain(error);
  }
}

function clockState(): boolean | undefined {
  try {
    return isClockSynchronised();
  } catch {
    // Forbidden in some containers.
    return undefined;
  }
}

const swapBytes = async (): Promise<number> => Number(/^SwapTotal:\s+(\d+) kB/m.exec(await readText('/proc/meminfo'))?.[1] ?? 0) * 1024;
