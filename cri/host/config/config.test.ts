/** The table of keys: what it reads, what it refuses and in which words, and where files say what. */
import assert from 'node:assert/strict';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { writeDocument } from './document.ts';
import { describeProblem, dropInDir, type FileProblem, merge, parseLayer, readConfigFiles } from './files.ts';
import { allKeys, computed, key, live, optional, type Problem, readKeys, section } from './key.ts';
import { absolutePath, duration, durationMs, flag, integer, listOf, mapOf, oneOf, record, required, size, sizeBytes, text, textMap } from './readers.ts';

const keys = {
  rootDir: key(absolutePath, '/var/lib/x', ''),
  name: computed(text, () => 'computed', 'n', ''),
  extra: optional(text, 'e', ''),
  wait: key(duration, '1m', ''),
  limit: key(size, '10Mi', ''),
  deep: section('', { on: live(key(flag, true, '')), kind: key(oneOf('a', 'b'), 'a', '') }),
  runtimes: live(key(listOf(record({ name: required(text, ''), path: required(absolutePath, '') })), [], '')),
} as const;

const read = (raw: unknown): { config: ReturnType<typeof readKeys<typeof keys>>; problems: Problem[] } => {
  const problems: Problem[] = [];
  return { config: readKeys(keys, raw, ['cri'], (problem) => problems.push(problem)), problems };
};

test('nothing said means the defaults, with the unit in the name', () => {
  const want = { rootDir: '/var/lib/x', name: 'computed', extra: undefined, waitMs: 60_000, limitBytes: 10 * 1024 * 1024, deep: { on: true, kind: 'a' }, runtimes: [] };
  assert.deepEqual(read(undefined), { config: want, problems: [] });
  assert.deepEqual(read({ rootDir: null, deep: null }).config, want);
});

const refused: [string, unknown, [string, RegExp][]][] = [
  ['a wrong type', { rootDir: 7 }, [['rootDir', /^must be an absolute path, not 7$/]]],
  ['a relative path', { rootDir: 'x' }, [['rootDir', /^must be an absolute path, not "x"$/]]],
  ['a word that is none of the allowed', { deep: { kind: 'c' } }, [['deep.kind', /^must be a or b, not "c"$/]]],
  ['a section that is a word', { deep: 'yes' }, [['deep', /^must be a mapping with the keys on, kind$/]]],
  ['a key with a letter too many', { rootDirs: '/x' }, [['rootDirs', /^unknown key; did you mean rootDir\?$/]]],
  ['a key that nobody knows', { colour: 'red' }, [['colour', /^unknown key; known are rootDir, name, /]]],
  ['a key that every object has', { constructor: 1 }, [['constructor', /^unknown key/]]],
  ['an item of a list', { runtimes: [{ name: 'r', path: '/r' }, { name: 'q' }] }, [['runtimes.1.path', /^is missing$/]]],
  ['a duration without a unit', { wait: 60 }, [['wait', /^must be a duration like 10s/]]],
  ['a size of nothing', { limit: 0 }, [['limit', /^must be a size like 10Mi/]]],
  ['everything at once', { rootDir: '', wait: 'soon', deep: { on: 'maybe' }, runtimes: 'runc' }, [['rootDir', /path/], ['wait', /duration/], ['deep.on', /^must be true or false/], ['runtimes', /^must be a list/]]],
];
for (const [name, raw, want] of refused) {
  test(`refused: ${name}`, () => {
    const { problems } = read(raw);
    assert.deepEqual(problems.map(({ place }) => place.slice(1).join('.')), want.map(([place]) => place));
    for (const [index, [, message]] of want.entries()) assert.match(problems[index]?.message ?? '', message);
  });
}

for (const [value, want] of [['1h30m', 5_400_000], ['1.5s', 1500], ['500ms', 500], ['0', 0], ['', undefined], ['5', undefined], ['5 s', undefined], ['s', undefined], [5, undefined]] as const) {
  test(`duration ${JSON.stringify(value)}`, () => assert.equal(durationMs(value), want));
}
for (const [value, want] of [['10Mi', 10_485_760], ['1G', 1e9], [4096, 4096], ['1.5Ki', 1536], ['-1', undefined], ['10MB', undefined], ['9999999Ti', undefined]] as const) {
  test(`size ${JSON.stringify(value)}`, () => assert.equal(sizeBytes(value), want));
}

test('numbers of a map of texts are taken as text, other maps keep their readers', () => {
  const fails = (problem: Problem): never => assert.fail(problem.message);
  assert.deepEqual(textMap.read({ a: 'x', b: 1 }, [], fails), { a: 'x', b: '1' });
  const problems: Problem[] = [];
  assert.equal(mapOf(integer(1, 3)).read({ a: 2, b: 4 }, ['m'], (problem) => problems.push(problem)), undefined);
  assert.deepEqual(problems, [{ place: ['m', 'b'], message: 'must be a whole number from 1 to 3, not 4' }]);
});

test('what is live is known by its dotted name, through sections', () => {
  assert.deepEqual(allKeys(keys).filter(({ isLive }) => isLive).map(({ name }) => name), ['deep.on', 'runtimes']);
});

test('a document reads back as what it shows, whatever the text', () => {
  const values = ['/a/b', 'yes', '1', '12:30', 'a: b', '# x', '', '10Mi', '1m30s', 'unix:///run/x.sock', '-', '{', '0x1f', '1e3', '~', 'Null', 'a#b', 'ends:'];
  const table = Object.fromEntries(values.map((_, index) => [`k${index}`, key(text, '', 'about: it')]));
  const document = writeDocument(table, (place) => ({ value: values[Number(String(place[0]).slice(1))], comment: 'c # d' }));
  assert.deepEqual(Object.values(parse(document) as object), values);
});

test('a layer tells the line of a key, of an item, of what is missing below, and of broken YAML', () => {
  const content = 'cri:\n  rootDir: x\n  runtimes:\n    - name: a\n      path: /a\n    - name: b\n';
  const layer = parseLayer('f.yaml', content, ({ message }) => assert.fail(message));
  assert.ok(layer);
  const said = (place: (string | number)[]): string => describeProblem([layer], { place, message: 'wrong' });
  assert.equal(said(['cri', 'rootDir']), 'f.yaml:2: cri.rootDir: wrong');
  assert.equal(said(['cri', 'runtimes', 1, 'path']), 'f.yaml:6: cri.runtimes[1].path: wrong');
  assert.equal(said(['agent']), 'agent: wrong');
  const problems: FileProblem[] = [];
  assert.equal(parseLayer('f.yaml', 'a: 1\na: 2\nb: "x\n', (problem) => problems.push(problem)), undefined);
  assert.deepEqual(problems.map(({ source }) => source), ['f.yaml:2', 'f.yaml:4']);
  for (const bad of ['- cri', 'word']) {
    assert.equal(parseLayer('f.yaml', bad, (problem) => problems.push(problem)), undefined);
    assert.deepEqual(problems.pop(), { source: 'f.yaml', message: 'must be a mapping' });
  }
});

test('drop-ins are laid over the file by name: mappings by key, lists as a whole; the last speaker is named', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'nodelet-config-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'my.yaml');
  mkdirSync(join(dir, 'my.d'));
  assert.equal(dropInDir(file), join(dir, 'my.d'));
  writeFileSync(file, 'cri:\n  a: [1, 2]\n  m: {x: 1, y: 1}\n');
  writeFileSync(join(dir, 'my.d/20-b.yaml'), 'cri:\n  a: [3]\n');
  writeFileSync(join(dir, 'my.d/10-a.yaml'), 'cri:\n  a: [9]\n  m: {y: 2}\n');
  writeFileSync(join(dir, 'my.d/30-c.yaml.bak'), ': not read');
  const layers = await readConfigFiles(file, { mustExist: true }, ({ message }) => assert.fail(message));
  assert.deepEqual(merge(layers), { cri: { a: [3], m: { x: 1, y: 2 } } });
  assert.equal(describeProblem(layers, { place: ['cri', 'a', 0], message: 'm' }), `${join(dir, 'my.d/20-b.yaml')}:2: cri.a[0]: m`);
});

test('a main file that was asked for and is not there is a problem, a missing default one is none', async () => {
  const problems: FileProblem[] = [];
  assert.deepEqual(await readConfigFiles('/nowhere/c.yaml', { mustExist: true }, (problem) => problems.push(problem)), []);
  assert.match(problems[0]?.message ?? '', /^cannot be read: /);
  assert.deepEqual(await readConfigFiles('/nowhere/c.yaml', { mustExist: false }, ({ message }) => assert.fail(message)), []);
});
