/** Every check and test in order, after hack/test.sh has set the machine up; ends with one line: `N passed, N failed, N skipped`. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Step {
  readonly title: string;
  /** Run in order; the first that fails ends the step. */
  readonly commands: readonly (readonly [string, ...string[]])[];
  /** A reason in plain words why this machine cannot run the step. */
  readonly cannot?: () => string | undefined;
}

const onPath = (program: string): boolean => (process.env['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, program)));
const isRoot = process.getuid?.() === 0;

const needsJudges = (): string | undefined =>
  onPath('go') ? undefined : 'the real control plane, crictl and containerd that judge us are built with Go, and there is no `go` on PATH';

const steps: Record<string, Step> = {
  types: { title: 'Type check', commands: [['tsc', '-p', '.']] },
  lint: { title: 'Lint', commands: [['oxlint', '--quiet']] },
  house: { title: 'House rules', commands: [['node', 'hack/check.ts']] },
  unit: { title: 'Unit tests', commands: [['node', 'hack/run-tests.ts', 'unit']] },
  // Before the root tests, which use its CNI plugins where they are.
  judges: { title: 'Judges', commands: [['node', 'hack/judges/build.ts', 'test', 'critest']], cannot: () => (isRoot ? needsJudges() : 'only root can run tests with them') },
  root: { title: 'Root tests', commands: [['node', 'hack/run-tests.ts', 'root']], cannot: () => (isRoot ? undefined : 'they mount, unshare and make cgroups, which needs root') },
  e2e: {
    title: 'End-to-end tests',
    commands: [['node', 'hack/build.ts'], ['node', 'hack/run-tests.ts', 'e2e']],
    cannot: () => (isRoot ? needsJudges() : 'they run a node, which needs root'),
  },
  cgroup2: {
    title: 'cgroup v2 in user-mode-linux',
    commands: [['node', 'hack/build.ts'], ['sh', 'hack/test-cgroup2.sh']],
    cannot: () => {
      if (!isRoot) return 'it unpacks a root file system, which needs root';
      return existsSync('hack/test-cgroup2.sh') ? undefined : 'hack/test-cgroup2.sh is not there';
    },
  },
};

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const failedSteps: string[] = [];
const skipReasons: string[] = [];
const scratch = mkdtempSync(join(tmpdir(), 'nodelet-results-'));

/** The counts that the step's programs wrote; a step without any counts as one test. */
function countsOf(file: string): Counts | undefined {
  if (!existsSync(file)) return undefined;
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const line of readFileSync(file, 'utf8').split('\n').filter((text) => text !== '')) {
    const part = JSON.parse(line) as Counts & { skips: string[] };
    counts.passed += part.passed;
    counts.failed += part.failed;
    counts.skipped += part.skipped;
    skipReasons.push(...part.skips);
  }
  return counts;
}

function runStep(name: string, step: Step): void {
  console.log(`\n==> ${step.title}`);
  const reason = step.cannot?.();
  if (reason !== undefined) {
    console.log(`    skipped: ${reason}`);
    skipReasons.push(`${step.title}: ${reason}`);
    total.skipped += 1;
    return;
  }
  const file = join(scratch, `${name}.jsonl`);
  const startedMs = performance.now();
  let ok = true;
  for (const [program, ...args] of step.commands) {
    const { status, signal, error } = spawnSync(program, args, { stdio: 'inherit', env: { ...process.env, NODELET_TEST_RESULTS: file } });
    ok = status === 0;
    if (error !== undefined) console.log(`    ${program}: ${error.message}`);
    if (signal !== null) console.log(`    ${program} ended by ${signal}`);
    if (!ok) break;
  }
  const counts = countsOf(file) ?? { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 };
  if (!ok && counts.failed === 0) counts.failed = 1;
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  if (!ok) failedSteps.push(step.title);
  console.log(`    ${step.title}: ${ok ? 'ok' : 'FAILED'} in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => steps[name] === undefined);
if (unknown.length > 0) {
  console.error(`npm test: no part named ${unknown.join(', ')}; there are: ${Object.keys(steps).join(' ')}`);
  process.exit(2);
}
for (const [name, step] of Object.entries(steps)) if (wanted.length === 0 || wanted.includes(name)) runStep(name, step);
rmSync(scratch, { recursive: true, force: true });

console.log('\n==> Result');
for (const reason of skipReasons) console.log(`    skipped: ${reason}`);
for (const title of failedSteps) console.log(`    failed: ${title}`);
const skipFails = process.env['CI'] === 'true' && total.skipped > 0;
if (skipFails) console.log('    CI=true: what was skipped counts as a failure');
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || skipFails ? 1 : 0;
