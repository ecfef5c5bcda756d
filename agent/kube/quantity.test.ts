/** Quantities: notations, rounding, refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { milliFrom, parseQuantity, wholeFrom } from './quantity.ts';

const cases: [string, bigint | undefined, bigint | undefined][] = [
  ['1', 1n, 1000n],
  ['250m', 1n, 250n],
  ['0.5', 1n, 500n],
  ['.5', 1n, 500n],
  ['1.5Gi', 1_610_612_736n, 1_610_612_736_000n],
  ['64Mi', 67_108_864n, 67_108_864_000n],
  ['128k', 128_000n, 128_000_000n],
  ['1e3', 1000n, 1_000_000n],
  ['1E', 10n ** 18n, 10n ** 21n],
  ['1E-1', 1n, 100n],
  ['1n', 1n, 1n],
  ['-1', -1n, -1000n],
  ['', undefined, undefined],
  ['.', undefined, undefined],
  ['1 Gi', undefined, undefined],
  ['1gi', undefined, undefined],
];

for (const [text, whole, milli] of cases) {
  test(`quantity ${JSON.stringify(text)}`, () => {
    assert.equal(wholeFrom(text), whole);
    assert.equal(milliFrom(text), milli);
  });
}

test('less than a billionth rounds up', () => assert.equal(parseQuantity('0.0000000001'), 1n));
