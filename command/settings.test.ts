/** The whole configuration: what flags and files make of it together, and that the reference file says all of it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Layer, parseLayer } from '#host/config/files.ts';
import { allKeys } from '#host/config/key.ts';
import { agentKeys, idleReason } from '../agent/config.ts';
import { criKeys } from '../cri/config.ts';
import { flagLayers } from './flags.ts';
import { logKeys } from './log-config.ts';
import { changedKeys, defaultDocument, effectiveDocument, type Settings, settingsOf } from './settings.ts';

function layer(text: string, file = 'f.yaml'): Layer {
  const found = parseLayer(file, text, ({ message }) => assert.fail(message));
  assert.ok(found);
  return found;
}
const settings = (text: string, flags: Readonly<Record<string, string>> = {}, isWholeNode = true): Settings =>
  ({ ...settingsOf([layer(text), ...flagLayers(flags)], isWholeNode), file: 'f.yaml', dropInDir: 'f.d' });

test('flags win over the files, paths are taken from where the command was typed', () => {
  const { cri, agent } = settings('cri: {rootDir: /a, certsDir: /c}\nagent: {nodeName: x}', { root: '/b', 'node-name': 'y', pods: 'manifests' });
  assert.deepEqual([cri.rootDir, cri.certsDir, agent.root, agent.nodeName, agent.staticPodPath], ['/b', '/c', '/b', 'y', `${process.cwd()}/manifests`]);
});

test('the agent of one process finds the socket and the root of the CRI server beside it', () => {
  const { cri, agent } = settings('cri: {rootDir: /r}', { state: '/run/x' });
  assert.deepEqual([cri.socket, agent.containerRuntimeEndpoint, agent.root], ['/run/x/cri.sock', 'unix:///run/x/cri.sock', '/r']);
});

test('an agent with an endpoint of its own keeps it', () => {
  const { agent } = settings('cri: {socket: /run/a.sock}\nagent: {containerRuntimeEndpoint: unix:///run/containerd/containerd.sock}');
  assert.equal(agent.containerRuntimeEndpoint, 'unix:///run/containerd/containerd.sock');
});

const cidrs: [string, string, boolean, string[]][] = [
  ['a standalone node gets a pod network without being asked', 'agent: {staticPodPath: /p}', true, ['10.86.0.0/24']],
  ['a node of a cluster waits for its range', 'agent: {kubeconfig: /k}', true, []],
  ['a CRI server alone has none', '', false, []],
  ['what is said stays', 'cri: {cni: {podCidrs: [10.1.0.0/24]}}', true, ['10.1.0.0/24']],
];
for (const [name, text, isWholeNode, want] of cidrs) test(name, () => assert.deepEqual(settings(text, {}, isWholeNode).cri.cni.podCidrs, want));

const refused: [string, string, RegExp][] = [
  ['an unknown section', 'kubelet: {}', /^f\.yaml:1: kubelet: unknown key; known are log, cri, agent$/],
  ['a level that is none', 'log:\n  level: loud', /^f\.yaml:2: log\.level: must be one of trace, .*not "loud"$/],
  ['a part of the log that there is not', 'log: {parts: {kubelet: debug}}', /log\.parts\.kubelet: unknown key/],
  ['a default runtime that is not configured', 'cri:\n  runtimes: [{name: a, path: /a}]\n  defaultRuntime: b', /^f\.yaml:3: cri\.defaultRuntime: "b" is not among cri\.runtimes, which has a$/],
  ['a handler twice', 'cri: {runtimes: [{name: a, path: /a}, {name: a, path: /b}]}', /cri\.runtimes\[1\]\.name: "a" is there twice$/],
  ['a state directory too long for its sockets', 'cri: {stateDir: /run/a-very-long-name-for-state}', /cri\.stateDir: must be at most 27 characters/],
  ['half of a key pair', 'agent: {tlsCertFile: /c}', /agent\.tlsCertFile: needs tlsPrivateKeyFile beside it$/],
  ['two mistakes, both named', 'cri:\n  rootDir: x\nagent:\n  maxPods: many', /^2 problems in the configuration:\n {2}f\.yaml:2: cri\.rootDir: .*\n {2}f\.yaml:4: agent\.maxPods: must be a whole number from 1 to 10000, not "many"$/],
];
for (const [name, text, message] of refused) test(`refused: ${name}`, () => assert.throws(() => settings(text), { kind: 'invalid', message }));

test('a wrong flag is named as a flag', () => {
  assert.throws(() => settings('', { 'log-level': 'loud' }), { message: /^--log-level: log\.level: must be/ });
});

test('an agent needs something to do', () => {
  assert.match(idleReason(settings('').agent) ?? '', /needs kubeconfig .* or staticPodPath/);
  for (const text of ['agent: {kubeconfig: /k}', 'agent: {staticPodPath: /p}']) assert.equal(idleReason(settings(text).agent), undefined);
});

const everyKey = allKeys({ ...criKeys, ...agentKeys, ...logKeys });

test('the default file is right, says the defaults and leaves out no key', () => {
  const text = defaultDocument();
  const { raw: _raw, layers: _layers, ...said } = settingsOf([layer(text)], false);
  const { raw: _raw2, layers: _layers2, ...defaults } = settingsOf([], false);
  assert.deepEqual(said, defaults);
  for (const { name } of everyKey) assert.match(text, new RegExp(`^ *(# )?${name.split('.').at(-1)}:`, 'm'), name);
  for (const line of text.split('\n')) assert.ok(line.length <= 160, line);
});

test('with its comments taken off, the default file is right too: the examples are', () => {
  const text = defaultDocument().replaceAll(/^( +)# ([a-zA-Z]+:)/gm, '$1$2').replace('runtimes: []', 'runtimes: [{name: crun, path: /usr/bin/crun}]');
  settingsOf([layer(text)], false);
});

test('manifests/config/nodelet.yaml is what `nodelet config default` prints', () => {
  assert.ok(readFileSync('manifests/config/nodelet.yaml', 'utf8') === defaultDocument(), 'it is out of date: node nodelet.ts config default > manifests/config/nodelet.yaml');
});

test('the effective configuration names file and line, flag, or default, and reads back as itself', () => {
  const before = settings('cri:\n  rootDir: /r\n', { 'node-name': 'n1' });
  const text = effectiveDocument(before);
  assert.match(text, /^ {2}rootDir: \/r +# f\.yaml:2$/m);
  assert.match(text, /^ {2}root: \/r +# follows from cri\.rootDir$/m);
  assert.match(text, /^ {2}nodeName: n1 +# --node-name$/m);
  assert.match(text, /^ {2}maxPods: 110 +# default$/m);
  const after = settingsOf([layer(text)], true);
  assert.deepEqual([after.log, after.cri, after.agent], [before.log, before.cri, before.agent]);
});

test('a change is live or needs a restart, key by key, and only the parts that run count', () => {
  const before = settings('cri: {rootDir: /a, runtimes: [], cni: {confDir: /c}}\nagent: {maxPods: 5}');
  const after = settings('log: {parts: {cri: debug}}\ncri: {rootDir: /b, runtimes: [{name: a, path: /a}], cni: {confDir: /d}}\nagent: {maxPods: 6}');
  assert.deepEqual(changedKeys(before, after, (section) => section !== 'agent'), { live: ['log.parts.cri', 'cri.runtimes', 'cri.cni.confDir'], needRestart: ['cri.rootDir'] });
  assert.deepEqual(changedKeys(before, after, (section) => section === 'agent'), { live: [], needRestart: ['agent.root', 'agent.maxPods'] });
  assert.deepEqual(changedKeys(before, before, () => true), { live: [], needRestart: [] });
});
