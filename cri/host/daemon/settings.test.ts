/** Files and flags laid over each other and read by the tables of the halves, with what follows from what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Layer, parseLayer } from '../config/files.ts';
import { flagLayers } from './flags.ts';
import { car, engine, wheels } from './halves.fake.ts';
import { changedKeys, effectiveDocument, type Settings, settingsOf } from './settings.ts';

function layer(text: string): Layer {
  const found = parseLayer('f.yaml', text, ({ message }) => assert.fail(message));
  assert.ok(found);
  return found;
}
const settings = (text: string, flags: Readonly<Record<string, string>> = {}, isWholeNode = false): Settings =>
  ({ ...settingsOf(car, [layer(text), ...flagLayers(car.halves, flags)], isWholeNode), file: 'f.yaml', dropInDir: 'f.d' });

test('flags win over the files, paths are taken from where the command was typed, names are not', () => {
  const found = settings('engine: {rootDir: /a, fuel: gas}\nwheels: {owner: x}', { root: 'b', owner: 'y' });
  assert.deepEqual([found.of(engine).rootDir, found.of(engine).fuel, found.of(wheels).owner], [`${process.cwd()}/b`, 'gas', 'y']);
});

test('a flag of both halves sets a key of each, in its own form', () => {
  const found = settings('', { socket: '/s' });
  assert.deepEqual([found.of(engine).socket, found.of(wheels).engine], ['/s', 'unix:///s']);
});

const tied: [string, string, boolean, unknown[]][] = [
  ['one key follows from another, and a third from that', 'engine: {rootDir: /r}', false, ['/r/sock', 'unix:///r/sock', 4]],
  ['what is said stays', 'engine: {rootDir: /r}\nwheels: {engine: unix:///mine}', false, ['/r/sock', 'unix:///mine', 4]],
  ['only a whole node follows from an absence', '', true, ['/run/engine.sock', 'unix:///run/engine.sock', 3]],
  ['what is there is no absence', 'wheels: {owner: x}', true, ['/run/engine.sock', 'unix:///run/engine.sock', 4]],
];
for (const [name, text, isWholeNode, want] of tied) {
  test(name, () => {
    const found = settings(text, {}, isWholeNode);
    assert.deepEqual([found.of(engine).socket, found.of(wheels).engine, found.of(wheels).count], want);
  });
}

const refused: [string, string, RegExp][] = [
  ['an unknown section', 'kubelet: {}', /^f\.yaml:1: kubelet: unknown key; known are log, engine, wheels$/],
  ['a level that is none', 'log:\n  level: loud', /^f\.yaml:2: log\.level: must be one of trace, .*not "loud"$/],
  ['a part of the log that there is not', 'log: {parts: {kubelet: debug}}', /log\.parts\.kubelet: unknown key; known are engine, wheels$/],
  ['what no single key can tell', 'engine:\n  fuel: water', /^f\.yaml:2: engine\.fuel: does not burn$/],
  ['a mistake, only where it was made', 'engine:\n  rootDir: x', /^f\.yaml:2: engine\.rootDir: must be an absolute path[^\n]*$/],
  ['two mistakes, both named', 'engine:\n  rootDir: x\nwheels:\n  count: many',
    /^2 problems in the configuration:\n {2}f\.yaml:2: engine\.rootDir: .*\n {2}f\.yaml:4: wheels\.count: must be a whole number from 1 to 18, not "many"$/],
];
for (const [name, text, message] of refused) test(`refused: ${name}`, () => assert.throws(() => settings(text), { kind: 'invalid', message }));

test('a wrong flag is named as a flag', () => {
  assert.throws(() => settings('', { 'log-level': 'loud' }), { message: /^--log-level: log\.level: must be/ });
});

test('the effective configuration names file and line, flag, or default, and reads back as itself', () => {
  const before = settings('engine:\n  rootDir: /r\n', { owner: 'n1' }, true);
  const text = effectiveDocument(car, before);
  assert.match(text, /^ {2}rootDir: \/r +# f\.yaml:2$/m);
  assert.match(text, /^ {2}engine: unix:\/\/\/r\/sock +# follows from engine\.socket$/m);
  assert.match(text, /^ {2}owner: n1 +# --owner$/m);
  assert.match(text, /^ {2}fuel: diesel +# default$/m);
  assert.match(effectiveDocument(car, settings('', {}, true)), /^ {2}count: 3 +# follows from the absence of wheels\.owner$/m);
  assert.deepEqual(settingsOf(car, [layer(text)], true).values, before.values);
});

test('a change is live or needs a restart, key by key, and only the parts that run count', () => {
  const before = settings('engine: {rootDir: /a, intake: {dir: /c}}\nwheels: {count: 5}');
  const after = settings('log: {parts: {engine: debug}}\nengine: {rootDir: /b, socket: /run/engine.sock, intake: {dir: /d, filters: [a]}}\nwheels: {count: 6}');
  assert.deepEqual(changedKeys(car, before, after, (section) => section !== 'wheels'),
    { live: ['log.parts.engine', 'engine.intake.filters', 'engine.intake.dir'], needRestart: ['engine.rootDir', 'engine.socket'] });
  assert.deepEqual(changedKeys(car, before, after, (section) => section === 'wheels'), { live: [], needRestart: ['wheels.engine', 'wheels.count'] });
  assert.deepEqual(changedKeys(car, before, before, () => true), { live: [], needRestart: [] });
});
