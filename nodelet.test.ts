/** The command line refuses what it does not understand and says which file and key; the halves find each other; the reference file says everything. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { runCommandLine } from '#host/daemon/command-line.ts';
import { type Layer, parseLayer } from '#host/config/files.ts';
import { allKeys } from '#host/config/key.ts';
import { flagLayers } from '#host/daemon/flags.ts';
import { defaultDocument, type Settings, settingsOf } from '#host/daemon/settings.ts';
import { agent } from './agent/half.ts';
import { cri } from './cri/half.ts';
import { program } from './nodelet.ts';

const main = (argv: readonly string[]): Promise<number> => runCommandLine(program, argv);

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

function layer(text: string): Layer {
  const found = parseLayer('f.yaml', text, ({ message }) => assert.fail(message));
  assert.ok(found);
  return found;
}
const settings = (text: string, flags: Readonly<Record<string, string>> = {}, isWholeNode = true): Settings =>
  ({ ...settingsOf(program, [layer(text), ...flagLayers(program.halves, flags)], isWholeNode), file: 'f.yaml', dropInDir: 'f.d' });

test('each flag reaches its keys in both halves', () => {
  const found = settings('', { root: '/r', state: '/s', kubeconfig: '/k', pods: 'manifests', 'node-name': 'n' });
  const { rootDir, stateDir, socket } = found.of(cri);
  const { root, kubeconfig, staticPodPath, nodeName, containerRuntimeEndpoint } = found.of(agent);
  assert.deepEqual([rootDir, stateDir, socket], ['/r', '/s', '/s/cri.sock']);
  assert.deepEqual([root, kubeconfig, staticPodPath, nodeName, containerRuntimeEndpoint], ['/r', '/k', `${process.cwd()}/manifests`, 'n', 'unix:///s/cri.sock']);
  const { of } = settings('', { socket: '/x.sock' });
  assert.deepEqual([of(cri).socket, of(agent).containerRuntimeEndpoint], ['/x.sock', 'unix:///x.sock']);
});

test('the agent of one process finds the socket and the root of the CRI server beside it', () => {
  const { of } = settings('cri: {rootDir: /r}', { state: '/run/x' });
  assert.deepEqual([of(cri).socket, of(agent).containerRuntimeEndpoint, of(agent).root], ['/run/x/cri.sock', 'unix:///run/x/cri.sock', '/r']);
});

test('an agent with an endpoint of its own keeps it', () => {
  const { of } = settings('cri: {socket: /run/a.sock}\nagent: {containerRuntimeEndpoint: unix:///run/containerd/containerd.sock}');
  assert.equal(of(agent).containerRuntimeEndpoint, 'unix:///run/containerd/containerd.sock');
});

const cidrs: [string, string, boolean, string[]][] = [
  ['a standalone node gets a pod network without being asked', 'agent: {staticPodPath: /p}', true, ['10.86.0.0/24']],
  ['a node of a cluster waits for its range', 'agent: {kubeconfig: /k}', true, []],
  ['a CRI server alone has none', '', false, []],
  ['what is said stays', 'cri: {cni: {podCidrs: [10.1.0.0/24]}}', true, ['10.1.0.0/24']],
];
for (const [name, text, isWholeNode, want] of cidrs) test(name, () => assert.deepEqual(settings(text, {}, isWholeNode).of(cri).cni.podCidrs, want));

const refused: [string, string, RegExp][] = [
  ['a default runtime that is not configured', 'cri:\n  runtimes: [{name: a, path: /a}]\n  defaultRuntime: b',
    /^f\.yaml:3: cri\.defaultRuntime: "b" is not among cri\.runtimes, which has a$/],
  ['a handler twice', 'cri: {runtimes: [{name: a, path: /a}, {name: a, path: /b}]}', /cri\.runtimes\[1\]\.name: "a" is there twice$/],
  ['a state directory too long for its sockets', 'cri: {stateDir: /run/a-very-long-name-for-state}', /cri\.stateDir: must be at most 27 characters/],
  ['half of a key pair', 'agent: {tlsCertFile: /c}', /agent\.tlsCertFile: needs tlsPrivateKeyFile beside it$/],
];
for (const [name, text, message] of refused) test(`refused: ${name}`, () => assert.throws(() => settings(text), { kind: 'invalid', message }));

test('an agent needs something to do', () => {
  assert.match(agent.idleReason?.(settings('').of(agent)) ?? '', /needs kubeconfig .* or staticPodPath/);
  for (const text of ['agent: {kubeconfig: /k}', 'agent: {staticPodPath: /p}']) assert.equal(agent.idleReason?.(settings(text).of(agent)), undefined);
});

test('the default file is right, says the defaults and leaves out no key', () => {
  const text = defaultDocument(program);
  assert.deepEqual(settingsOf(program, [layer(text)], false).values, settingsOf(program, [], false).values);
  for (const { name } of program.halves.flatMap(({ keys }) => allKeys(keys))) assert.match(text, new RegExp(`^ *(# )?${name.split('.').at(-1)}:`, 'm'), name);
  for (const line of text.split('\n')) assert.ok(line.length <= 160, line);
});

test('with its comments taken off, the default file is right too: the examples are', () => {
  const text = defaultDocument(program).replaceAll(/^( +)# ([a-zA-Z]+:)/gm, '$1$2').replace('runtimes: []', 'runtimes: [{name: crun, path: /usr/bin/crun}]');
  settingsOf(program, [layer(text)], false);
});

test('manifests/config/nodelet.yaml is what `nodelet config default` prints', () => {
  const file = readFileSync('manifests/config/nodelet.yaml', 'utf8');
  assert.ok(file === defaultDocument(program), 'it is out of date: node nodelet.ts config default > manifests/config/nodelet.yaml');
});
