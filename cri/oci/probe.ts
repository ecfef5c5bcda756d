/**
 * Which OCI runtimes work on this machine, and how: each candidate has to create a container in a scratch bundle, directly or, when that fails on a
 * machine with both versions of cgroups, where it sees only one. Trying is the only test that is always right. The answer is kept until the program
 * or the machine's boot changes.
 */
import { chmod, mkdir, mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '#host/atomic-file.ts';
import type { QuickMoves } from '#host/cgroup-moves.ts';
import type { Cgroups } from '#host/cgroup-types.ts';
import { type Ctx, detached } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { findProgram, run, runChecked } from '#host/exec.ts';
import { explain, Fault } from '#host/fault.ts';
import { removeTree } from '#host/remove-tree.ts';
import { type CgroupDriver, cgroupPlace } from './cgroup-path.ts';
import { directly, hiddenCgroup2, type RuntimeEntry } from './cgroup-view.ts';
import { type RuntimeFeatures, runtimeFeatures } from './features.ts';
import { deleteContainer, makeDetached, type OciRuntime, runtimeEnv } from './runtime.ts';
import type { OciSpec } from './spec-types.ts';

export interface ProbeOptions {
  /** Empty: `crun` and `runc`, as far as they are installed, in this order. */
  readonly configured: readonly Candidate[];
  readonly cgroupDriver: CgroupDriver;
  /** Group below which the trial containers are made. */
  readonly cgroupParent: string;
  /** On a tmpfs: what is kept here lasts until the next boot. */
  readonly stateDir: string;
  readonly ociRootDir: (handler: string) => string;
  readonly cgroups: Pick<Cgroups, 'remove'>;
  readonly moves: QuickMoves;
  /** Of each command. */
  readonly timeoutMs: number;
}

interface Candidate {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly privilegedWithoutHostDevices?: boolean | undefined;
}

interface Verdict {
  /** Path, size and time of change of the program. */
  readonly identity: string;
  readonly version: string;
  /** It works only where cgroup version 2 is hidden. */
  readonly isHidden: boolean;
  /** Unknown in what older versions kept. */
  readonly features?: RuntimeFeatures;
  /** Why it does not work. */
  readonly failure: string | undefined;
}

/**
 * The runtimes that work, configured order kept. A configured one that does not work is Fault 'precondition' with its own words; so is
 * a machine on which none does.
 */
export async function probeRuntimes(ctx: Ctx, options: ProbeOptions): Promise<OciRuntime[]> {
  const isConfigured = options.configured.length > 0;
  const tried = await tryRuntimes(ctx, options);
  const runtimes = tried.flatMap(({ runtime }) => (runtime === undefined ? [] : [runtime]));
  const failures = tried.flatMap(({ path, failure }) => (failure === undefined ? [] : [`${path}: ${failure}`]));
  if (isConfigured && failures.length > 0) throw new Fault('precondition', `OCI runtime does not work here: ${failures.join('; ')}`);
  for (const failure of failures) ctx.log.info({ failure }, 'OCI runtime does not work here');
  if (runtimes.length === 0) {
    throw new Fault('precondition', failures.length === 0 ? 'no OCI runtime found: install crun or runc' : `no OCI runtime works here: ${failures.join('; ')}`);
  }
  return runtimes;
}

export interface TriedRuntime extends Candidate {
  readonly version: string;
  /** What it said when it had to create a container; undefined: it did, and here it is. */
  readonly failure: string | undefined;
  readonly runtime: OciRuntime | undefined;
}

/** Every candidate, whether it works or not; those that are not installed are none. */
export async function tryRuntimes(ctx: Ctx, options: ProbeOptions): Promise<TriedRuntime[]> {
  await mkdir(options.stateDir, { recursive: true, mode: 0o711 });
  const candidates = options.configured.length > 0 ? options.configured : await installed(['crun', 'runc']);
  const known = await readVerdicts(options);
  const verdicts: Record<string, Verdict> = {};
  const tried: TriedRuntime[] = [];
  for (const candidate of candidates) {
    const verdict = await judge(ctx, options, candidate, known[candidate.path]);
    verdicts[candidate.path] = verdict;
    const { version, failure } = verdict;
    const entry = verdict.isHidden ? await hiddenCgroup2(ctx) : directly;
    tried.push({ ...candidate, version, failure, runtime: failure === undefined && entry !== undefined ? describe(options, candidate, { ...verdict, entry }) : undefined });
  }
  await writeFileAtomic(verdictsFile(options), JSON.stringify(verdicts));
  return tried;
}

async function installed(names: readonly string[]): Promise<Candidate[]> {
  const found = await Promise.all(names.map(async (name) => ({ name, path: await findProgram(name) })));
  return found.flatMap(({ name, path }) => (path === undefined ? [] : [{ name, path }]));
}

type Judged = Pick<Verdict, 'version' | 'features'> & { readonly entry: RuntimeEntry };
const describe = (options: ProbeOptions, { name, path, privilegedWithoutHostDevices = false }: Candidate, judged: Judged): OciRuntime => ({
  name,
  path,
  entry: judged.entry,
  moves: options.moves,
  timeoutMs: options.timeoutMs,
  rootDir: options.ociRootDir(name),
  cgroupDriver: options.cgroupDriver,
  version: judged.version,
  privilegedWithoutHostDevices,
  features: judged.features ?? runtimeFeatures(judged.version, undefined),
});

/** `runc version 1.1.5+ds1` → `runc 1.1.5+ds1`. */
export function parseVersion(output: string): string {
  const match = /^(\S+) version (\S+)/m.exec(output);
  return match === null ? (output.split('\n')[0]?.trim() ?? '') : `${match[1]} ${match[2]}`;
}

const verdictsFile = (options: ProbeOptions): string => join(options.stateDir, 'runtimes.json');

async function readVerdicts(options: ProbeOptions): Promise<Readonly<Record<string, Verdict>>> {
  try {
    return JSON.parse(await readFile(verdictsFile(options), 'utf8')) as Record<string, Verdict>;
  } catch (error) {
    // A cache: what cannot be read is found out again.
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return {};
    throw error;
  }
}

async function judge(ctx: Ctx, options: ProbeOptions, candidate: Candidate, known: Verdict | undefined): Promise<Verdict> {
  let identity: string;
  try {
    const { size, mtimeMs, ino } = await stat(candidate.path);
    identity = [size, mtimeMs, ino, options.cgroupDriver].join(':');
  } catch (error) {
    return { identity: '', version: '', isHidden: false, failure: explain(error) };
  }
  // A failure may have been mended by other means than another program: only success is kept.
  if (known?.identity === identity && known.failure === undefined && known.features !== undefined) return known;
  let version = '';
  try {
    version = parseVersion((await runChecked(ctx, { path: candidate.path, args: ['--version'], env: runtimeEnv })).stdout.toString('utf8'));
    const told = await run(ctx, { path: candidate.path, args: ['features'], env: runtimeEnv });
    const features = runtimeFeatures(version, told.exitCode === 0 ? told.stdout.toString('utf8') : undefined);
    const isHidden = await worksHidden(ctx, options, candidate, version);
    return { identity, version, features, isHidden, failure: undefined };
  } catch (error) {
    ctx.signal.throwIfAborted();
    return { identity, version, isHidden: false, failure: explain(error) };
  }
}

/** False when it works directly. Throws why it does not when it works neither way. */
async function worksHidden(ctx: Ctx, options: ProbeOptions, candidate: Candidate, version: string): Promise<boolean> {
  try {
    await tryCreate(ctx, options, describe(options, candidate, { version, entry: directly }));
    return false;
  } catch (failure) {
    const entry = await hiddenCgroup2(ctx);
    if (entry === undefined) throw failure;
    await tryCreate(ctx, options, describe(options, candidate, { version, entry }));
    ctx.log.info({ runtime: candidate.path, failure: explain(failure) }, 'the OCI runtime is started where it does not see cgroup version 2');
    return true;
  }
}

async function tryCreate(ctx: Ctx, options: ProbeOptions, runtime: OciRuntime): Promise<void> {
  const bundle = await mkdtemp(join(options.stateDir, 'probe-'));
  const id = `nodelet-probe-${process.pid}-${runtime.name}`;
  const place = cgroupPlace({ driver: options.cgroupDriver, parent: options.cgroupParent, id });
  const trial: OciRuntime = { ...runtime, rootDir: join(bundle, 'state') };
  try {
    const rootfs = join(bundle, 'rootfs');
    await Promise.all(['proc', 'dev', 'sys'].map((name) => mkdir(join(rootfs, name), { recursive: true })));
    // Never executed, for the container is not started; but it has to be there.
    await writeFile(join(rootfs, 'true'), '#!/true\n');
    await chmod(join(rootfs, 'true'), 0o755);
    await writeFile(join(bundle, 'config.json'), JSON.stringify(trialSpec(place.cgroupsPath)));
    await makeDetached(ctx, trial, { verb: 'create', id, bundleDir: bundle, pidFile: join(bundle, 'pid'), logFile: join(bundle, 'log') });
  } finally {
    const undo = detached(ctx);
    await deleteContainer(undo, trial, id);
    await options.cgroups.remove(undo, place.cgroupPath);
    await removeTree(bundle);
  }
}

const trialSpec = (cgroupsPath: string): OciSpec => ({
  ociVersion: '1.0.2',
  process: { user: { uid: 0, gid: 0 }, args: ['/true'], env: [], cwd: '/', capabilities: { bounding: [], effective: [], permitted: [] } },
  root: { path: 'rootfs', readonly: true },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
  ],
  linux: {
    namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'network' }],
    cgroupsPath,
    resources: { devices: [{ allow: false, access: 'rwm' }] },
  },
});
