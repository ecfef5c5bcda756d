/** The command line: subcommands, each importing lazily only the half it needs. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { parseDocument } from 'yaml';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import { createLog, type LogLevel } from '#host/log.ts';
import type { Images } from './cri/image/images.ts';

const defaultConfigFile = '/etc/nodelet/config.yaml';
const logLevels: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'silent'];
/** Where pods live on a node that no cluster has given a range. */
const standalonePodCidr = '10.86.0.0/24';

/** Flags of the daemon, and the keys of the configuration file that they override. */
const overrides: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  root: [['cri', 'rootDir'], ['agent', 'root']],
  state: [['cri', 'stateDir']],
  socket: [['cri', 'socket'], ['agent', 'containerRuntimeEndpoint']],
  kubeconfig: [['agent', 'kubeconfig']],
  'node-name': [['agent', 'nodeName']],
  pods: [['agent', 'staticPodPath']],
  'log-level': [['log', 'level']],
};
const pathFlags: ReadonlySet<string> = new Set(['root', 'state', 'socket', 'kubeconfig', 'pods']);

const usage = `nodelet turns this Linux host into a Kubernetes node.

  nodelet run             the whole node: CRI server and agent in one process
  nodelet cri             only the CRI server, for a kubelet, crictl or \`nodelet agent\`
  nodelet agent           only the agent, on any CRI server
  nodelet image ls        the images on this node
  nodelet image import PATH…   load OCI layouts or docker archives (tar or directory); --name NAME for one that has no name
  nodelet image rm IMAGE…      remove images by name or id
  nodelet wipe            remove everything nodelet made on this machine: containers, mounts, networks, images, directories
  nodelet config check    read the configuration and say what is wrong with it
  nodelet config default  print every configuration key with its default
  nodelet version
  nodelet help

Flags
  --config FILE       configuration (default ${defaultConfigFile}, which may be missing)
  --kubeconfig FILE   join the cluster that this kubeconfig names
  --pods PATH         run the pods in this directory or file; without --kubeconfig: a standalone node
  --node-name NAME    name of the Node (default: the host name)
  --root DIR          what survives a reboot: images, layers, records (default /var/lib/nodelet)
  --state DIR         what does not: sockets, namespaces (default /run/nodelet)
  --socket PATH       the CRI socket (default DIR of --state + /cri.sock)
  --log-level LEVEL   ${logLevels.join(', ')} (default info); lines of JSON on stderr
A flag wins over the configuration file.

At night
  What runs?              crictl --runtime-endpoint unix:///run/nodelet/cri.sock pods (and: ps -a, logs ID, inspect ID)
  SIGTERM or Ctrl-C       stops nodelet; containers keep running, and the next start finds them again
  Is it really gone?      nodelet wipe, after stopping nodelet; it may be repeated
Exit status: 0 done · 1 failed · 2 wrong flags or configuration, with one line that names the file and the key.
`;

type Raw = Record<string, Record<string, unknown>>;
type Flags = Readonly<Record<string, string | boolean | undefined>>;

interface Settings {
  readonly raw: Raw;
  /** Names the source in messages. */
  readonly source: string;
  readonly level: LogLevel;
}

const isMapping = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The configuration file's mappings; Fault invalid names the file, and the line where it is no YAML. */
export function readConfig(file: string, text: string): Raw {
  const document = parseDocument(text);
  const [problem] = document.errors;
  if (problem !== undefined) throw new Fault('invalid', `${file}: not YAML: ${problem.message.split('\n')[0]?.replace(/:$/, '')}`);
  const content: unknown = document.toJS();
  if (content === null || content === undefined) return {};
  if (!isMapping(content)) throw new Fault('invalid', `${file}: must be a mapping with the keys cri, agent and log`);
  for (const [key, value] of Object.entries(content)) {
    if (!['cri', 'agent', 'log'].includes(key)) throw new Fault('invalid', `${file}: ${key}: unknown key; known are cri, agent, log`);
    if (value !== null && !isMapping(value)) throw new Fault('invalid', `${file}: ${key}: must be a mapping`);
  }
  // A key with nothing below it means its defaults.
  return Object.fromEntries(Object.entries(content).map(([key, value]) => [key, isMapping(value) ? value : {}]));
}

/** The configuration with the flags laid over it. Paths in flags are relative to where the command was typed. */
export function withFlags(raw: Raw, flags: Flags): Raw {
  const result: Raw = { ...raw };
  const set = (section: string, key: string, value: unknown): void => void (result[section] = { ...result[section], [key]: value });
  for (const [flag, keys] of Object.entries(overrides)) {
    const value = flags[flag];
    if (typeof value !== 'string') continue;
    const given = pathFlags.has(flag) ? resolve(value) : value;
    for (const [section, key] of keys) set(section, key, key === 'containerRuntimeEndpoint' ? `unix://${given}` : given);
  }
  const stateDir = result['cri']?.['stateDir'];
  if (typeof stateDir === 'string' && result['cri']?.['socket'] === undefined) set('cri', 'socket', join(stateDir, 'cri.sock'));
  const socket = result['cri']?.['socket'];
  if (typeof socket === 'string' && result['agent']?.['containerRuntimeEndpoint'] === undefined) set('agent', 'containerRuntimeEndpoint', `unix://${socket}`);
  const rootDir = result['cri']?.['rootDir'];
  if (rootDir !== undefined && result['agent']?.['root'] === undefined) set('agent', 'root', rootDir);
  return result;
}

function loadSettings(flags: Flags): Settings {
  const given = flags['config'];
  const file = typeof given === 'string' ? given : defaultConfigFile;
  const present = typeof given === 'string' || existsSync(file);
  let text = '';
  try {
    if (present) text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new Fault('invalid', `${file}: cannot be read: ${explain(cause)}`, cause);
  }
  const raw = withFlags(readConfig(file, text), flags);
  const source = present ? file : 'command line';
  const { level = 'info', ...others } = raw['log'] ?? {};
  for (const key of Object.keys(others)) throw new Fault('invalid', `${source}: log.${key}: unknown key; known is level`);
  if (!logLevels.some((known) => known === level)) throw new Fault('invalid', `${source}: log.level: must be one of ${logLevels.join(', ')}, not ${JSON.stringify(level)}`);
  return { raw, source, level: level as LogLevel };
}

type Command = (flags: Flags, args: readonly string[]) => Promise<number> | number;

type Half = 'cri' | 'agent';
interface Stoppable {
  stop(): Promise<void>;
}

/** Both parts are read before anything starts: a typing error must not leave half a node running. */
async function startHalves(ctx: Ctx, settings: Settings, halves: readonly Half[]): Promise<Stoppable[]> {
  const has = (half: Half): boolean => halves.includes(half);
  const cri = has('cri') ? (await import('./cri/config.ts')).parseCriConfig(withPodCidr(settings.raw, has('agent'))['cri'], settings.source) : undefined;
  const agent = has('agent') ? (await import('./agent/config.ts')).parseAgentConfig(settings.raw['agent'], settings.source) : undefined;
  const running: Stoppable[] = [];
  try {
    if (cri !== undefined) running.unshift(await (await import('./cri/daemon.ts')).startCri(ctx, cri));
    if (agent !== undefined) {
      const lock = await lockAgent(agent.root);
      running.unshift({ stop: async () => lock[Symbol.dispose]() });
      running.unshift(await (await import('./agent/daemon.ts')).startAgent(ctx, agent));
    }
    return running;
  } catch (error) {
    for (const half of running) await half.stop();
    throw error;
  }
}

/** A standalone node gets a pod network without being asked. */
function withPodCidr(raw: Raw, withAgent: boolean): Raw {
  const cni = raw['cri']?.['cni'];
  const isStandalone = withAgent && raw['agent']?.['kubeconfig'] === undefined;
  if (!isStandalone || (isMapping(cni) && cni['podCidrs'] !== undefined)) return raw;
  return { ...raw, cri: { ...raw['cri'], cni: { ...(isMapping(cni) ? cni : {}), podCidrs: [standalonePodCidr] } } };
}

async function runDaemon(flags: Flags, halves: readonly Half[]): Promise<number> {
  const settings = loadSettings(flags);
  const stopping = new AbortController();
  const log = createLog({ level: settings.level });
  const ctx: Ctx = { signal: stopping.signal, log };
  const { promise: stopped, resolve: stop } = Promise.withResolvers<string>();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      // Asked twice: somebody is in a hurry, and a kill -9 is survived anyway.
      if (stopping.signal.aborted) process.exit(1);
      stopping.abort(new Fault('canceled', `nodelet is stopping (${name})`));
      stop(name);
    });
  }
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'a defect in nodelet: ends now, containers keep running, start it again');
    process.exit(1);
  });
  const running = await startHalves(ctx, settings, halves);
  log.info({ version: version(), pid: process.pid }, `nodelet ${halves.join(' and ')} up`);
  const reason = await stopped;
  log.info(`${reason}: stopping; containers keep running`);
  for (const half of running) await half.stop();
  return 0;
}

function version(): string {
  const text = readFileSync(join(packageDir(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Where package.json and manifests/ lie: beside nodelet.ts, and above dist/nodelet.js. */
const packageDir = (): string => (import.meta.filename.endsWith('.ts') ? import.meta.dirname : dirname(import.meta.dirname));

async function checkConfig(flags: Flags): Promise<number> {
  const settings = loadSettings(flags);
  const { parseCriConfig } = await import('./cri/config.ts');
  const { parseAgentConfig } = await import('./agent/config.ts');
  parseCriConfig(settings.raw['cri'], settings.source);
  parseAgentConfig(settings.raw['agent'], settings.source);
  console.log(`${settings.source}: good`);
  return 0;
}

/** `work` with the images of the configured root. A running daemon notices what changes there by itself. */
async function withImages(flags: Flags, work: (ctx: Ctx, images: Images) => Promise<void>): Promise<number> {
  const settings = loadSettings(flags);
  const { rootDir, stateDir, certsDir } = (await import('./cri/config.ts')).parseCriConfig(settings.raw['cri'], settings.source);
  const { criPaths } = await import('./cri/state/paths.ts');
  const { Images } = await import('./cri/image/images.ts');
  const stopping = new AbortController();
  const ctx: Ctx = { signal: stopping.signal, log: createLog({ level: flags['log-level'] === undefined ? 'warn' : settings.level }) };
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stopping.abort(new Fault('canceled', `stopped by ${name}`)));
  const { imagesDir, layersDir } = criPaths({ rootDir, stateDir });
  const images = await Images.open(ctx, { imagesDir, layersDir, certsDir });
  try {
    await work(ctx, images);
    return 0;
  } finally {
    await images.close();
  }
}

const imageCommands: Readonly<Record<string, (ctx: Ctx, images: Images, args: readonly string[], flags: Flags) => Promise<void>>> = {
  ls: async (_ctx, images) => {
    const rows = images.records().flatMap(({ id, repoTags, repoDigests, sizeBytes }) =>
      (repoTags.length > 0 ? repoTags : [repoDigests[0] ?? '<none>']).map((name) => [name, id.slice(7, 19), `${(sizeBytes / 1e6).toFixed(1)} MB`]));
    const table = [['IMAGE', 'ID', 'SIZE'], ...rows.toSorted(([a = ''], [b = '']) => a.localeCompare(b))];
    const width = Math.max(...table.map(([name = '']) => name.length));
    for (const [name = '', id = '', size = ''] of table) console.log(`${name.padEnd(width)}  ${id.padEnd(12)}  ${size.padStart(9)}`.trimEnd());
  },
  import: async (ctx, images, paths, flags) => {
    const name = flags['name'];
    for (const path of paths) {
      const records = await images.import(ctx, resolve(path), typeof name === 'string' ? { name } : {});
      for (const { id, repoTags } of records) console.log(`${repoTags.join(' ') || '<none>'}  ${id}`);
    }
  },
  rm: async (ctx, images, refs) => {
    for (const ref of refs) {
      const found = images.find(ref);
      if (found === undefined) throw new Fault('not-found', `image rm: there is no image ${ref}`);
      await images.remove(ctx, ref);
      console.log(found.id);
    }
  },
};

const image: Command = (flags, [name = '', ...args]) => {
  const work = imageCommands[name];
  if (work === undefined) throw new Fault('invalid', `image: expects ls, import or rm${name === '' ? '' : `, not ${name}`}`);
  if (name === 'ls' && args.length > 0) throw new Fault('invalid', `image ls: takes no argument, but got ${args.join(' ')}`);
  if (name !== 'ls' && args.length === 0) throw new Fault('invalid', `image ${name}: ${name === 'rm' ? 'which image?' : 'which path? An OCI layout or a docker archive, as a directory or a tar'}`);
  return withImages(flags, (ctx, images) => work(ctx, images, args, flags));
};

/** The CRI's half first: it ends the containers. Refuses while a nodelet runs on these directories. */
async function wipe(flags: Flags): Promise<number> {
  const settings = loadSettings(flags);
  const cri = (await import('./cri/config.ts')).parseCriConfig(settings.raw['cri'], settings.source);
  // What the agent runs does not matter any more.
  const agent = (await import('./agent/config.ts')).parseAgentConfig({ staticPodPath: '/', ...settings.raw['agent'] }, settings.source);
  const ctx: Ctx = { signal: new AbortController().signal, log: createLog({ level: flags['log-level'] === undefined ? 'warn' : settings.level }) };
  using _ = await lockAgent(agent.root);
  await (await import('./cri/wipe.ts')).wipeCri(ctx, cri);
  await (await import('./agent/wipe.ts')).wipeAgent(ctx, agent, cri.cgroupDriver);
  for (const dir of new Set([cri.rootDir, agent.root])) await removeIfEmpty(dir);
  console.log(`removed everything of nodelet in ${cri.rootDir} and ${cri.stateDir}`);
  return 0;
}

/** With the lock in it still held: whoever waits for that lock finds it gone. */
async function removeIfEmpty(dir: string): Promise<void> {
  await rm(join(dir, agentLock), { force: true });
  await rmdir(dir).catch((error: unknown) => {
    // Somebody keeps something else there, or it was never made.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY')) throw error;
  });
}

const agentLock = 'agent.lock';

/** One agent per root directory; the CRI server has a lock of its own. */
async function lockAgent(root: string): Promise<Disposable> {
  const { lockFile } = await import('#host/lock-file.ts');
  await mkdir(root, { recursive: true, mode: 0o711 });
  const lock = lockFile(join(root, agentLock));
  if (lock === undefined) throw new Fault('precondition', `${root} is in use by another nodelet: stop that first`);
  return lock;
}

const config = (flags: Flags, args: readonly string[]): Promise<number> | number => {
  if (args[0] === 'check' && args.length === 1) return checkConfig(flags);
  if (args[0] !== 'default' || args.length !== 1) throw new Fault('invalid', `config: expects check or default${args.length === 0 ? '' : `, not ${args.join(' ')}`}`);
  process.stdout.write(readFileSync(join(packageDir(), 'manifests/config/nodelet.yaml'), 'utf8'));
  return 0;
};

const without = (name: string, command: (flags: Flags) => Promise<number> | number): Command => (flags, args) => {
  if (args.length > 0) throw new Fault('invalid', `${name}: takes no argument, but got ${args.join(' ')}`);
  return command(flags);
};

const commands: Readonly<Record<string, Command>> = {
  run: without('run', (flags) => runDaemon(flags, ['cri', 'agent'])),
  cri: without('cri', (flags) => runDaemon(flags, ['cri'])),
  agent: without('agent', (flags) => runDaemon(flags, ['agent'])),
  image,
  wipe: without('wipe', wipe),
  config,
  version: without('version', () => (console.log(`nodelet ${version()} (Node ${process.versions.node})`), 0)),
  help: () => (process.stdout.write(usage), 0),
};

const options: ParseArgsOptionsConfig = {
  config: { type: 'string' }, ...Object.fromEntries(Object.keys(overrides).map((name) => [name, { type: 'string' } as const])),
  name: { type: 'string' }, help: { type: 'boolean', short: 'h' }, version: { type: 'boolean' },
};

/** What the process exits with. Everything that can go wrong becomes one line on stderr. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    const { values, positionals } = parse(argv);
    const [name = values['version'] === true ? 'version' : 'help', ...args] = positionals;
    if (values['help'] === true) return await commands['help']!(values, []); // the table above has it
    const command = commands[name];
    if (command === undefined) throw new Fault('invalid', `unknown command ${name}; see nodelet help`);
    return await command(values, args);
  } catch (error) {
    console.error(`nodelet: ${explain(error)}`);
    return isFault(error, 'invalid') ? 2 : 1;
  }
}

function parse(argv: readonly string[]): { values: Flags; positionals: string[] } {
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true }) as { values: Flags; positionals: string[] };
  } catch (error) {
    // parseArgs explains at length how to pass a positional that begins with a dash, which nodelet has none of.
    throw new Fault('invalid', `${explain(error).split('. To specify')[0]}; see nodelet help`);
  }
}

if (process.argv[1] !== undefined && /^nodelet\.(ts|js)$/.test(process.argv[1].split('/').at(-1) ?? '')) {
  void main(process.argv.slice(2)).then((status) => process.exit(status));
}
