/**
 * What a pod costs with nobody around: a namespace, the CNI plugins, conmon with the runtime, called one after the other as a shell script would.
 * No CRI server that uses these programs can be faster than their sum; what it takes above it is its own.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Results } from './measure.ts';
import { conflist, makePlace, removePlace, type Place } from './place.ts';
import { workloadMark } from './pod.ts';

export interface FloorOptions {
  readonly rounds: number;
  readonly runtime: string;
  readonly cniBinDir: string;
  /** An OCI layout with a busybox image; its first layer becomes the root file system. */
  readonly layout: string;
  readonly reference: string;
  readonly ipMasq: boolean;
  readonly signal: AbortSignal;
}

const column = 'floor';
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

interface Program {
  readonly path: string;
  readonly args: readonly string[];
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Descriptors 3 and up. */
  readonly extra?: readonly 'ignore'[];
}

/** To its end; rejects with its stderr. */
function run({ path: program, args, stdin, env, cwd }: Program): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { PATH: searchPath, ...env }, stdio: ['pipe', 'pipe', 'pipe'], ...(cwd === undefined ? {} : { cwd }) });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(stdout) : reject(new Error(`${path.basename(program)} ${args.join(' ')}: exit status ${code}: ${stderr || stdout}`))));
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
  });
}

export async function measureFloor(results: Results, options: FloorOptions): Promise<void> {
  const place = await makePlace('nlb', { onTmpfs: false });
  try {
    const rootfs = path.join(place.dir, 'rootfs');
    await unpackFirstLayer(options, rootfs);
    for (let round = 0; round <= options.rounds; round += 1) {
      options.signal.throwIfAborted();
      await oneRound(results, { ...options, place, rootfs, id: `nlbench-${process.pid}-${round}`, counted: round > 0 });
    }
  } finally {
    await removePlace(place);
  }
}

async function unpackFirstLayer({ layout, reference }: FloorOptions, rootfs: string): Promise<void> {
  const read = (file: string): { manifests?: Descriptor[]; layers?: Descriptor[] } => JSON.parse(readFileSync(path.join(layout, file), 'utf8')) as { manifests?: Descriptor[]; layers?: Descriptor[] };
  const blob = (descriptor: Descriptor | undefined): string => `blobs/${(descriptor?.digest ?? '').replace(':', '/')}`;
  let manifest = read(blob(read('index.json').manifests?.find((each) => each.annotations?.['org.opencontainers.image.ref.name'] === reference)));
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  if (manifest.layers === undefined) manifest = read(blob(manifest.manifests?.find((each) => each.platform?.architecture === architecture)));
  await mkdir(rootfs, { recursive: true });
  execFileSync('tar', ['-xf', path.join(layout, blob(manifest.layers?.[0])), '-C', rootfs], { env: { PATH: searchPath } });
}

interface Descriptor {
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly architecture: string };
}

interface Round extends FloorOptions {
  readonly place: Place;
  readonly rootfs: string;
  readonly id: string;
  readonly counted: boolean;
}

async function oneRound(results: Results, round: Round): Promise<void> {
  const { place, id, runtime } = round;
  const bundle = path.join(place.dir, id);
  const netns = path.join(bundle, 'net');
  const ociRoot = path.join(place.dir, 'oci');
  await mkdir(bundle);
  await writeFile(netns, '');
  const time = <T>(name: string, work: () => Promise<T>): Promise<T> => (round.counted ? results.time(name, column, work) : work());
  const begin = performance.now();
  await time('RunPodSandbox', async () => {
    await run({ path: '/usr/bin/unshare', args: [`--net=${netns}`, '/bin/true'] });
    await cni(round, 'ADD', netns);
  });
  await writeFile(path.join(bundle, 'config.json'), JSON.stringify(spec(round, netns)));
  await time('CreateContainer', () => conmonCreate(round, bundle, ociRoot));
  await time('StartContainer', () => run({ path: runtime, args: ['--root', ociRoot, 'start', id] }));
  if (round.counted) results.add('pod to running', 'ms', column, performance.now() - begin);
  await time('ExecSync true', () => run({ path: runtime, args: ['--root', ociRoot, 'exec', id, '/bin/true'] }));
  await time('StopContainer, no grace', async () => {
    await run({ path: runtime, args: ['--root', ociRoot, 'kill', id, 'KILL'] });
    while (!(await readdir(bundle)).includes('exit')) await new Promise((resolve) => setTimeout(resolve, 1));
  });
  await time('RemoveContainer', () => run({ path: runtime, args: ['--root', ociRoot, 'delete', id] }));
  await time('StopPodSandbox + RemovePodSandbox', async () => {
    await cni(round, 'DEL', netns);
    await run({ path: '/bin/umount', args: ['--lazy', netns] });
  });
  await rm(bundle, { recursive: true, force: true });
}

async function cni({ cniBinDir, place, id, ipMasq }: Round, verb: 'ADD' | 'DEL', netns: string): Promise<void> {
  const list = JSON.parse(conflist(place, ipMasq)) as { cniVersion: string; name: string; plugins: { type: string }[] };
  const plugins = verb === 'ADD' ? list.plugins : list.plugins.toReversed();
  const env = { CNI_COMMAND: verb, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0', CNI_PATH: cniBinDir };
  let prevResult: unknown;
  for (const plugin of plugins) {
    const { cniVersion, name } = list;
    const stdout = await run({ path: path.join(cniBinDir, plugin.type), args: [], env, stdin: JSON.stringify({ ...plugin, cniVersion, name, ...(prevResult === undefined ? {} : { prevResult }) }) });
    if (verb === 'ADD') prevResult = JSON.parse(stdout);
  }
}

const conmonPath = (): string => ['/usr/bin/conmon', '/usr/local/bin/conmon', '/usr/libexec/podman/conmon'].find((file) => existsSync(file)) ?? '/usr/bin/conmon';

/** Done when conmon's first process ends: the runtime has created the container then. */
async function conmonCreate({ id, runtime }: Round, bundle: string, ociRoot: string): Promise<void> {
  const args = [
    '--api-version=1', '--cid', id, '--cuuid', id, '--name', id, '--bundle', bundle, '--persist-dir', bundle,
    '--conmon-pidfile', path.join(bundle, 'conmon.pid'), '--container-pidfile', path.join(bundle, 'pid'), '--socket-dir-path', bundle,
    '--log-path', `k8s-file:${path.join(bundle, 'log')}`, '--no-sync-log', '--runtime', runtime, '--runtime-arg', `--root=${ociRoot}`, '--sync',
  ];
  const child = spawn(conmonPath(), args, { cwd: bundle, env: { PATH: searchPath, _OCI_SYNCPIPE: '3' }, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const told = child.stdio[3];
  if (told === null || told === undefined) throw new Error('no pipe to conmon');
  let line = '';
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    told.on('data', (chunk: Buffer) => {
      line += chunk.toString();
      if (line.includes('\n')) resolve();
    });
    told.once('end', resolve);
  });
  told.destroy();
  const { data, message } = JSON.parse(line.split('\n')[0] ?? '{}') as { data?: number; message?: string };
  if (data === undefined || data <= 0) throw new Error(`conmon could not create the container: ${message ?? line}`);
}

/** What a pod's container gets, as short as it may be. */
function spec({ rootfs, place, id }: Round, netns: string): object {
  const capabilities = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_SETGID', 'CAP_SETUID'];
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 }, args: ['/bin/sleep', workloadMark], env: [`PATH=${searchPath}`], cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: rootfs, readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'] },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    ],
    linux: {
      cgroupsPath: `${place.cgroup}/${id}`,
      namespaces: [{ type: 'pid' }, { type: 'mount' }, { type: 'ipc' }, { type: 'uts' }, { type: 'network', path: netns }],
      maskedPaths: ['/proc/kcore', '/proc/keys'],
      readonlyPaths: ['/proc/sys'],
    },
  };
}
