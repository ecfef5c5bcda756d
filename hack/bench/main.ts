/** npm run bench: see `--help`. Starts the servers, measures, prints, and takes everything away again. */
import { existsSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import path from 'node:path';
import { buildLayout } from '../images/build.ts';
import { judgesDir } from '../judges/pins.ts';
import { measureFloor } from './floor.ts';
import { measureIdle, measureLife, measureMany, measurePull, pull, Results, type Bench } from './measure.ts';
import { measureChurn, measureStanding } from './long.ts';
import { markdownTable, textTable } from './numbers.ts';
import { cgroupHierarchies } from './place.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { type Registry, startRegistry } from '../registry.ts';
import { attach, runtimePath, type Server, startContainerd, startNodelet } from './servers.ts';

const say = (line: string): void => console.error(line);
const busybox = 'registry.k8s.io/e2e-test-images/busybox:1.29-2';
const pause = 'registry.k8s.io/pause:3.10.2';

const standingPods = 100;
const churnPods = 1000;

const aborted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    if (!aborted.signal.aborted) say(`${name}: cleaning up…`);
    aborted.abort(new Error(`stopped by ${name}`));
  });
}

/** How to start each server that we start ourselves. */
function starters(options: Options, registry: Registry, onTmpfs = false): (() => Promise<Server>)[] {
  const start = { runtime: options.runtime, registry, ipMasq: options.ipMasq, sandboxImage: pause, onTmpfs, delay: options.delay };
  return [...(options.nodelet ? [() => startNodelet(start)] : []), ...(options.best ? [() => startNodelet(start, true)] : []), ...(options.containerd ? [() => startContainerd(start)] : [])];
}

async function startServers(options: Options, registry: Registry, add: (server: Server) => void): Promise<void> {
  for (const start of starters(options, registry)) {
    aborted.signal.throwIfAborted();
    add(await start());
  }
  for (const { name, socket } of options.sockets) add(await attach(name, socket));
}

async function measure(options: Options, bench: Bench): Promise<void> {
  const wants = (part: Options['only'][number]): boolean => options.only.includes(part);
  const recordDelay = async (during: string): Promise<void> => {
    for (const server of bench.servers) {
      const delayMs = await server.longestDelayMs();
      if (delayMs !== undefined) bench.results.add(`event loop late at most, during ${during}`, 'ms', server.name, delayMs);
    }
  };
  if (wants('memory')) await measureIdle(bench);
  if (wants('life')) await measureLife(bench, options.rounds).then(() => recordDelay('single calls'));
  if (wants('pods') || wants('memory') || wants('lists')) {
    for (const pods of options.pods) {
      await measureMany(bench, { pods, repeats: options.repeats, memory: wants('memory'), lists: wants('lists') });
      await recordDelay(`${pods} pods`);
    }
  }
  if (wants('standing')) await measureStanding(bench, standingPods);
  if (wants('churn')) await measureChurn(bench, churnPods);
}

function print(options: Options, results: Results, servers: readonly Server[], note = ''): void {
  const rows = results.rows();
  const hasFloor = rows.some(({ samples }) => samples['floor'] !== undefined);
  const columns = [...(hasFloor ? ['floor'] : []), ...servers.map(({ name }) => name)];
  const reference = columns.length > 1 ? columns.at(-1) : undefined;
  const table = { rows, servers: columns, reference };
  const about = `${note}${[...servers.map(({ name, version }) => `${name} ${version}`), ...(hasFloor ? ['floor: the programs alone'] : [])].join(', ')}; ${options.runtime}, ${options.hostNetwork ? 'host network' : 'CNI bridge and portmap'}, `
    + `seccomp ${options.seccomp}; ${cpus().length} CPUs, Linux ${release()}, load ${loadavg()[0]?.toFixed(1)}; medians (p10..p90), ${options.rounds} rounds`;
  if (options.json !== '-') console.log(options.markdown ? `${markdownTable(table)}\n\n${about}.` : `${textTable(table)}\n\n${about}`);
  if (options.json === undefined) return;
  const text = `${JSON.stringify({ about, options, rows: table.rows }, undefined, 1)}\n`;
  if (options.json === '-') process.stdout.write(text);
  else writeFileSync(options.json, text);
}

/** From this machine, and as if from far away. */
async function measurePulls(options: Options, results: Results, layout: string): Promise<void> {
  for (const [forms, far] of [[['gzip', 'zstd'], undefined], [['gzip'], 20]] as const) {
    await using registry = await startRegistry({ layouts: [layout], ...(far === undefined ? {} : { bytesPerSecond: far * 1_000_000 }) });
    const pulls = forms.map((form) => ({ reference: `registry.k8s.io/bench/big:${form}`, note: far === undefined ? '' : `, ${far} MB/s per connection` }));
    await measurePull({ results, signal: aborted.signal, say }, { pulls, repeats: options.repeats, fresh: starters(options, registry, true) });
  }
}

async function bench(options: Options): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('the benchmark starts containers: run it as root');
  const quick = await buildLayout('quick', say);
  const registry = await startRegistry({ layouts: [quick] });
  const servers: Server[] = [];
  const results = new Results();
  const image = options.image ?? busybox;
  try {
    await startServers(options, registry, (server) => {
      servers.push(server);
      say(`${server.name} ${server.version} is up`);
    });
    for (const server of servers) await pull(server, image);
    if (servers.length > 0) await measure(options, { servers, results, signal: aborted.signal, say, image, hostNetwork: options.hostNetwork, seccomp: options.seccomp });
    if (options.only.includes('pull')) await measurePulls(options, results, await buildLayout('bench', say));
    if (options.floor && options.runtime === 'crun' && cgroupHierarchies().includes('/sys/fs/cgroup/unified')) {
      say('floor: left out, for crun refuses this machine with both cgroup versions (the servers run where version 2 is not seen)');
    } else if (options.floor) {
      const cniBinDir = [path.join(judgesDir(), 'cni'), '/opt/cni/bin', '/usr/lib/cni'].find((dir) => existsSync(path.join(dir, 'bridge'))) ?? '/opt/cni/bin';
      say('floor: the programs alone');
      await measureFloor(results, { rounds: options.rounds, runtime: runtimePath(options.runtime), cniBinDir, layout: quick, reference: busybox, ipMasq: options.ipMasq, signal: aborted.signal });
    }
    print(options, results, servers);
  } catch (error) {
    if (results.rows().length > 0) print(options, results, servers, 'INCOMPLETE: ');
    throw error;
  } finally {
    for (const server of servers.toReversed()) await server.close().catch((error: unknown) => { say(`clean-up of ${server.name}: ${String(error)}`); process.exitCode = 1; });
    await registry[Symbol.asyncDispose]();
  }
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(usage);
  else await bench(options);
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
