/** The pure parts of streaming: tokens, terminal sizes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { parseSizes } from './terminal-sizes.ts';
import { Tokens } from './tokens.ts';

test('a token works once and for a minute, and only so many wait', () => {
  let nowMs = 1000;
  const tokens = new Tokens<string>(() => nowMs);
  const [first, second] = [tokens.issue('a'), tokens.issue('b')];
  assert.equal(Buffer.from(first, 'base64url').length, 32);
  assert.deepEqual([tokens.redeem(first), tokens.redeem(first), tokens.redeem('unknown')], ['a', undefined, undefined]);
  nowMs += 60_000;
  assert.equal(tokens.redeem(second), undefined);
  for (let i = 0; i < 1000; i++) tokens.issue('c');
  assert.throws(() => tokens.issue('one more'), (error) => isFault(error, 'exhausted'));
  nowMs += 60_000;
  assert.equal(tokens.redeem(tokens.issue('d')), 'd', 'those that nobody came for make room');
});

test('terminal sizes are read one behind the other, and what is none is skipped', () => {
  const cases: readonly (readonly [string, [number, number][], string])[] = [
    ['{"Width":80,"Height":24}\n', [[80, 24]], '\n'],
    ['{"Width":80,"Height":24}{"height": 25 ,"width" : 81}', [[80, 24], [81, 25]], ''],
    ['{"Width":80,"Hei', [], '{"Width":80,"Hei'],
    ['{"Width":80}{"Width":-1,"Height":2}{"Width":70000,"Height":2}{"Width":1.5,"Height":2}nonsense', [[1, 2]], 'nonsense'],
    ['{{{{{"Width":3,"Height":4}}}}', [[3, 4]], ''],
  ];
  for (const [text, sizes, rest] of cases) assert.deepEqual(parseSizes(text), { sizes: sizes.map(([columns, rows]) => ({ columns, rows })), rest }, text);
  assert.ok(parseSizes('{'.repeat(1_000_000)).rest.length < 10_000);
});
