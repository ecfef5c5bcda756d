/** The command line refuses what it does not understand, and says which file and key. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseAgentConfig } from './agent/config.ts';
import { parseCriConfig } from './cri/config.ts';
import { main, readConfig, withFlags } from './nodelet.ts';

const badFiles: [string, string, RegExp][] = [
  ['broken YAML names the line', 'cri:\n  socket: "x\n', /^f\.yaml: not YAML: .*line 3, column 1$/],
  ['a list is no configuration', '- cri', /^f\.yaml: must be a mapping/],
  ['an unknown section', 'kubelet: {}', /^f\.yaml: kubelet: unknown key; known are cri, agent, log$/],
  ['a section that is a word', 'cri: yes please', /^f\.yaml: cri: must be a mapping$/],
];
for (const [name, text, message] of badFiles) {
  test(`configuration: ${name}`, () => assert.throws(() => readConfig('f.yaml', text), { kind: 'invalid', message }));
}

test('an empty file and an empty section mean the defaults', () => {
  assert.deepEqual(readConfig('f.yaml', ''), {});
  assert.deepEqual(readConfig('f.yaml', 'cri:\n'), { cri: {} });
});

test('flags win over the file, paths are taken from where the command was typed', () => {
  const raw = { cri: { rootDir: '/a', certsDir: '/c' }, agent: { nodeName: 'x' } };
  assert.deepEqual(withFlags(raw, { root: '/b', 'node-name': 'y', pods: 'manifests' }), {
    cri: { rootDir: '/b', certsDir: '/c' },
    agent: { root: '/b', nodeName: 'y', staticPodPath: join(process.cwd(), 'manifests') },
  });
});

test('the agent of one process finds the socket of the CRI server beside it', () => {
  assert.deepEqual(withFlags({}, { state: '/run/x' }), {
    cri: { stateDir: '/run/x', socket: '/run/x/cri.sock' },
    agent: { containerRuntimeEndpoint: 'unix:///run/x/cri.sock' },
  });
});

test('an agent with an endpoint of its own keeps it', () => {
  const raw = { cri: { socket: '/run/a.sock' }, agent: { containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock' } };
  assert.deepEqual(withFlags(raw, {}), raw);
});

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
  ['a log level that is none', ['config', 'check', '--log-level', 'loud'], /log\.level: must be one of .*"loud"$/],
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
  assert.match(stderr, new RegExp(`^nodelet: ${file}: agent\\.maxPods: must be a whole number`));
});

test('the example configuration says the defaults', () => {
  const file = 'manifests/config/nodelet.yaml';
  const example = readConfig(file, readFileSync(file, 'utf8'));
  assert.deepEqual(parseCriConfig(example['cri'], file), parseCriConfig(undefined, 'nothing'));
  assert.deepEqual(parseAgentConfig(example['agent'], file), parseAgentConfig({ staticPodPath: '/etc/nodelet/pods' }, 'nothing'));
});

test('the example configuration leaves out no key', () => {
  const text = readFileSync('manifests/config/nodelet.yaml', 'utf8');
  const uncommented = readConfig('example', text.replaceAll(/^ {2}# ([a-zA-Z]+:)/gm, '  $1'));
  const keys = (config: object): string[] => Object.keys(config).map((key) => key.replace(/Ms$/, '')).toSorted();
  assert.deepEqual(keys(uncommented['cri'] ?? {}), keys(parseCriConfig(undefined, 'nothing')));
  assert.deepEqual(keys(uncommented['agent'] ?? {}), keys(parseAgentConfig({ staticPodPath: '/pods' }, 'nothing')));
});
