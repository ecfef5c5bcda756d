/** The command line refuses what it does not understand, and says which file and key. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from './nodelet.ts';

async function run(t: TestContext, ...argv: string[]): Promise<{ status: number; stderr: string }> {
  const lines: string[] = [];
  t.mock.method(console, 'error', (line: string) => lines.push(line));
  t.mock.method(console, 'log', () => undefined);
  return { status: await main(argv), stderr: lines.join('\n') };
}

const badCommands: [string, string[], RegExp][] = [
  ['an unknown command', ['frobnicate'], /^nodelet: unknown command frobnicate; see nodelet help$/],
  ['an unknown flag', ['run', '--frob'], /^nodelet: Unknown option '--frob'; see nodelet help$/],
  ['a flag without its value', ['run', '--root'], /--root.*argument missing/],
  ['an argument too many', ['run', 'now'], /^nodelet: run: takes no argument, but got now$/],
  ['an image command without its image', ['image', 'rm'], /^nodelet: image rm: which image\?$/],
  ['an unknown image command', ['image', 'frob'], /^nodelet: image: expects ls, import or rm, not frob$/],
  ['a log level that is none', ['config', 'check', '--log-level', 'loud'], /^nodelet: --log-level: log\.level: must be one of .*"loud"$/],
  ['a configuration file that is not there', ['run', '--config', '/nowhere/c.yaml'], /^nodelet: \/nowhere\/c\.yaml: cannot be read/],
];
for (const [name, argv, message] of badCommands) {
  test(`${name}: status 2 and one line`, async (t) => {
    const { status, stderr } = await run(t, ...argv);
    assert.equal(status, 2);
    assert.match(stderr, message);
  });
}

test('config check names the file and the key', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'nodelet-cli-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'config.yaml');
  writeFileSync(file, 'agent:\n  staticPodPath: /pods\n  maxPods: many\n');
  const { status, stderr } = await run(t, 'config', 'check', '--config', file);
  assert.equal(status, 2);
  assert.match(stderr, new RegExp(`^nodelet: ${file}:3: agent\\.maxPods: must be a whole number`));
});

test('every command explains itself, also by --help', async (t) => {
  for (const name of ['run', 'cri', 'agent', 'config', 'image', 'wipe', 'version', 'check']) {
    const texts: string[] = [];
    const log = t.mock.method(console, 'log', (text: string) => void texts.push(text));
    const statuses = [await main(['help', name]), await main([name, '--help'])];
    log.mock.restore();
    assert.deepEqual(statuses, [0, 0]);
    assert.match(texts[0] ?? '', new RegExp(`^nodelet ${name}`));
    assert.equal(texts[0], texts[1]);
  }
});
