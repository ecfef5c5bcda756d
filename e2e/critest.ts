/**
 * npm run critest: the CRI's own suite against a server of ours on private paths. Ginkgo counts a skipped spec as success, so the counts themselves are
 * demanded: what can pass on this kind of machine passes, and nothing else is skipped. See --help.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findJudge } from '../hack/judges/pins.ts';
import { startContainerd } from './harness/containerd.ts';
import type { CriServer } from './harness/cri-server.ts';
import { startNodelet } from './harness/nodelet.ts';
import { testRegistry } from './harness/registry.ts';
import { judge, systemProgram } from './harness/tools.ts';

const usage = `npm run critest -- [OPTION…]   runs critest 1.37 as root against nodelet (dist/nodelet.js) on private paths

  --runtime runc|crun     the OCI runtime (default runc)
  --against containerd    containerd 2.4 instead of nodelet, to tell whose fault it is
  --focus REGEX           only specs that match; the counts are then not compared
  --skip REGEX            leave specs out; the counts are then not compared
  --websocket             the streaming specs over websocket instead of SPDY
  --parallel N            in N processes (needs the judge ginkgo)
  --seed N                order of the specs (default: random, and printed)
  --repeat N              so many runs, each in another order
  --keep-log FILE         critest's whole output, of the last run
  --help
`;

export interface CritestOptions {
  readonly runtime: 'runc' | 'crun';
  readonly server: CriServer['name'];
  readonly focus?: string | undefined;
  readonly skip?: string | undefined;
  readonly websocket: boolean;
  readonly parallel: number;
  readonly seed?: string | undefined;
  readonly logFile?: string | undefined;
}

export interface CritestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Full names, with the reason of each skip and the message of each failure. */
  readonly failures: readonly string[];
  readonly skips: readonly string[];
  /** Wall time, for people. */
  readonly seconds: number;
}

/** Of 142 specs, with every OCI runtime: AppArmor (9) is not in this kernel, benchmarks (5) are another mode. */
export const expectedCounts: Pick<CritestCounts, 'passed' | 'failed' | 'skipped'> = { passed: 128, failed: 0, skipped: 14 };

/** One run on a server that is made for it and goes with it. Throws when critest itself cannot run. */
export async function runCritest(options: CritestOptions): Promise<CritestCounts> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'nodelet-critest-'));
  const before = sharedMemory();
  try {
    await using registry = await testRegistry({ set: 'critest' });
    const nriSocket = path.join(scratch, 'nri.sock');
    await using server = await start(options, { nriSocket, writeHosts: registry.writeHosts });
    const report = path.join(scratch, 'report.json');
    const text = await run(flags(options, { socket: server.socket, nriSocket, report }), options.logFile);
    return read(report, text);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    // The HostIpc specs make a segment each and leave it (critest's clean-up does not know of it).
    for (const id of sharedMemory().difference(before)) spawnSync(systemProgram('ipcrm'), ['-m', id]);
  }
}

function start(options: CritestOptions, own: { nriSocket: string; writeHosts: (certsDir: string) => Promise<void> }): Promise<CriServer> {
  const { runtime, server } = options;
  if (server === 'containerd') return startContainerd({ runtime, writeHosts: own.writeHosts });
  const program = runtime === 'runc' ? judge('runc') : systemProgram('crun');
  return startNodelet({ mode: 'cri', writeHosts: own.writeHosts, config: { runtimes: [{ name: runtime, path: program }], nri: { socket: own.nriSocket } } });
}

function flags(options: CritestOptions, own: { socket: string; nriSocket: string; report: string }): string[] {
  const { server, focus, skip, websocket, parallel, seed } = options;
  return [
    '-runtime-endpoint', `unix://${own.socket}`, '-image-endpoint', `unix://${own.socket}`, '-ginkgo.no-color', '-ginkgo.json-report', own.report, '-ginkgo.timeout', '30m',
    ...(server === 'nodelet' ? ['-nri-socket', own.nriSocket] : []),
    ...(focus === undefined ? [] : ['-ginkgo.focus', focus]),
    ...(skip === undefined ? [] : ['-ginkgo.skip', skip]),
    ...(websocket ? ['-websocket-exec', '-websocket-attach', '-websocket-portforward'] : []),
    ...(parallel > 1 ? ['-parallel', String(parallel)] : []),
    ...(seed === undefined ? [] : ['-ginkgo.seed', seed]),
  ];
}

/** Runs critest to its end, whatever that is; its output. A failed spec is no error here. */
async function run(args: readonly string[], logFile: string | undefined): Promise<string> {
  const critest = judge('critest');
  const ginkgoDir = path.dirname(findJudge('ginkgo') ?? critest);
  const child = spawn(critest, [...args], { env: { ...process.env, PATH: `${ginkgoDir}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` }, stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve, reject) => { child.once('error', reject).once('close', resolve); });
  const text = Buffer.concat(chunks).toString('utf8');
  if (logFile !== undefined) writeFileSync(logFile, text);
  return text;
}

interface SpecReport {
  readonly LeafNodeType: string;
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeText: string;
  readonly State: string;
  readonly Failure?: { readonly Message: string };
}

function read(report: string, output: string): CritestCounts {
  let suites: { RunTime: number; SpecReports: SpecReport[] }[];
  try {
    suites = JSON.parse(readFileSync(report, 'utf8')) as typeof suites;
  } catch (cause) {
    throw new Error(`critest left no report; its last words:\n${output.slice(-3000)}`, { cause });
  }
  const specs = suites.flatMap(({ SpecReports }) => SpecReports);
  const of = (...states: string[]): SpecReport[] => specs.filter(({ LeafNodeType, State }) => LeafNodeType === 'It' && states.includes(State));
  const name = (spec: SpecReport): string => `${[...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' > ')}${spec.Failure === undefined ? '' : `: ${spec.Failure.Message.split('\n')[0] ?? ''}`}`;
  const failed = specs.filter(({ State }) => ['failed', 'panicked', 'timedout', 'interrupted', 'aborted'].includes(State));
  const skipped = of('skipped');
  return {
    passed: of('passed').length, failed: failed.length, skipped: skipped.length, failures: failed.map(name), skips: skipped.map(name),
    seconds: Math.round(suites.reduce((sum, { RunTime }) => sum + RunTime, 0) / 1e9),
  };
}

/** Ids of the machine's System V segments. */
const sharedMemory = (): ReadonlySet<string> =>
  new Set(readFileSync('/proc/sysvipc/shm', 'utf8').trimEnd().split('\n').slice(1).map((line) => line.trim().split(/\s+/)[1] ?? ''));

const random = (): string => String(Math.floor(Math.random() * 1e6) + 1);

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      runtime: { type: 'string', default: 'runc' }, against: { type: 'string' }, focus: { type: 'string' }, skip: { type: 'string' }, websocket: { type: 'boolean', default: false },
      parallel: { type: 'string', default: '1' }, seed: { type: 'string' }, repeat: { type: 'string', default: '1' }, 'keep-log': { type: 'string' }, help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return process.stdout.write(usage);
  const { runtime, against, focus, skip, websocket } = values;
  if (runtime !== 'runc' && runtime !== 'crun') throw new Error(`--runtime must be runc or crun, not ${runtime}`);
  if (against !== undefined && against !== 'containerd') throw new Error(`--against must be containerd, not ${against}`);
  let ok = true;
  for (let round = 0; round < Number(values.repeat); round += 1) {
    const seed = values.seed ?? random();
    console.log(`critest against ${against ?? 'nodelet'} with ${runtime}, seed ${seed}…`);
    const counts = await runCritest({ runtime, server: against ?? 'nodelet', focus, skip, websocket, parallel: Number(values.parallel), seed, logFile: values['keep-log'] });
    for (const line of counts.skips) console.log(`  skipped: ${line}`);
    for (const line of counts.failures) console.log(`  FAILED: ${line}`);
    console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped in ${counts.seconds} s`);
    const wanted = expectedCounts;
    const compared = focus === undefined && skip === undefined && against === undefined;
    const right = compared ? counts.passed === wanted.passed && counts.failed === wanted.failed && counts.skipped === wanted.skipped : counts.failed === 0;
    if (compared && !right) console.log(`wanted: ${wanted.passed} passed, ${wanted.failed} failed, ${wanted.skipped} skipped`);
    ok &&= right;
  }
  return ok;
}

if (import.meta.main) {
  try {
    if (!await main()) process.exitCode = 1;
  } catch (error) {
    console.error(`critest: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
