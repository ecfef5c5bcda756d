/** Runs one class of tests: `node hack/run-tests.ts unit|root|e2e [filter…]`, where a filter is a part of a file's path. */
import { appendFileSync, chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, type EventData } from 'node:test';
import { spec } from 'node:test/reporters';

interface Suite {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly concurrency: number;
  readonly fileTimeoutMs: number;
  readonly needsRoot: boolean;
}

const minute = 60_000;
const suites: Record<string, Suite> = {
  unit: { include: ['{cri,agent,cni,hack}/**/*.test.ts', '*.test.ts'], exclude: ['.root.test.ts'], concurrency: 2, fileTimeoutMs: 2 * minute, needsRoot: false },
  root: { include: ['{cri,agent,cni,hack}/**/*.root.test.ts', '*.root.test.ts'], exclude: [], concurrency: 1, fileTimeoutMs: 5 * minute, needsRoot: true },
  e2e: { include: ['e2e/**/*.test.ts'], exclude: [], concurrency: 1, fileTimeoutMs: 30 * minute, needsRoot: true },
};

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
  readonly skips: string[];
}

/** Where `hack/test.ts` wants the counts: one JSON line per suite. */
const resultsFile = process.env['NODELET_TEST_RESULTS'];

function report(suite: string, tally: Tally): void {
  if (resultsFile !== undefined) appendFileSync(resultsFile, `${JSON.stringify({ suite, ...tally })}\n`);
  for (const line of tally.skips) console.log(`skipped: ${line}`);
}

function filesOf(suite: Suite, filters: readonly string[]): string[] {
  const found = suite.include.flatMap((pattern) => globSync(pattern, { exclude: ['**/node_modules/**'] }));
  const wanted = found.filter((file) => !suite.exclude.some((suffix) => file.endsWith(suffix)));
  return [...new Set(wanted)].filter((file) => filters.length === 0 || filters.some((part) => file.includes(part))).toSorted();
}

/** Unmounts and removes what a test left below its temporary directory; says so, because a clean test leaves no mount. */
function cleanUp(directory: string): string[] {
  const left = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((point) => point.startsWith(`${directory}/`));
  for (const point of left.toReversed()) spawnSync('umount', ['-l', point]);
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  return left;
}

async function runSuite(name: string, suite: Suite, filters: readonly string[]): Promise<Tally> {
  const tally: Tally = { passed: 0, failed: 0, skipped: 0, skips: [] };
  const files = filesOf(suite, filters);
  if (files.length === 0) {
    console.log(filters.length === 0 ? `no ${name} tests yet` : `no ${name} test file matches ${filters.join(', ')}`);
    return tally;
  }
  if (suite.needsRoot && process.getuid?.() !== 0) {
    tally.skipped = files.length;
    tally.skips.push(`${name} tests (${files.length} files): they need root, and this is user ${process.getuid?.()}`);
    return tally;
  }
  const directory = mkdtempSync(join(tmpdir(), `nodelet-${name}-`));
  // The root of a user namespace has to pass.
  chmodSync(directory, 0o711);
  const env = { ...process.env, TMPDIR: directory, NODE_OPTIONS: '--disable-warning=ExperimentalWarning' };
  const stream = run({ files, concurrency: suite.concurrency, timeout: suite.fileTimeoutMs, env });
  stream.on('test:summary', (summary: EventData.TestSummary) => {
    if (summary.file !== undefined) return;
    tally.passed = summary.counts.passed;
    tally.failed = summary.counts.tests - summary.counts.passed - summary.counts.skipped - summary.counts.todo;
    tally.skipped = summary.counts.skipped;
  });
  stream.on('test:pass', (event: EventData.TestPass) => {
    if (event.skip !== undefined && event.skip !== false) tally.skips.push(`${event.name}${typeof event.skip === 'string' && event.skip !== '' ? ` (${event.skip})` : ''}`);
  });
  try {
    for await (const chunk of stream.compose(new spec())) process.stdout.write(chunk as string);
  } finally {
    const left = cleanUp(directory);
    if (left.length > 0) {
      tally.failed += 1;
      console.log(`left mounted by a test (now unmounted): ${left.join(' ')}`);
    }
  }
  return tally;
}

const [name = '', ...filters] = process.argv.slice(2);
const suite = suites[name];
if (suite === undefined || !existsSync('package.json')) {
  console.error(`usage, from the top of the repository: node hack/run-tests.ts ${Object.keys(suites).join('|')} [part of a path…]`);
  process.exitCode = 2;
} else {
  const tally = await runSuite(name, suite, filters);
  report(name, tally);
  process.exitCode = tally.failed > 0 ? 1 : 0;
}
