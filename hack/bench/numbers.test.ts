/** The statistics and tables of the benchmark. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { markdownTable, short, summarize, textTable } from './numbers.ts';

test('median and percentiles are interpolated', () => {
  assert.deepEqual(summarize([4, 1, 3, 2]), { count: 4, median: 2.5, p10: 1.3, p90: 3.7 });
  assert.equal(summarize([]), undefined);
});

test('numbers have three digits', () => assert.deepEqual([0.612, 6.54, 98.82, 1199.4].map(short), ['0.61', '6.5', '98.8', '1199']));

const rows = [
  { name: 'start', unit: 'ms', samples: { a: [10, 20, 30], b: [40] } },
  { name: 'memory', unit: 'MiB', samples: { b: [5] } },
] as const;

test('the table has a ratio to the reference, and a dash where nothing was measured', () => {
  assert.equal(textTable({ rows, servers: ['a', 'b'], reference: 'b' }), ['                             a     b  a / b', 'start, ms    20.0 (12.0..28.0)  40.0   0.50', 'memory, MiB                  –   5.0      –'].join('\n'));
  assert.equal(
    markdownTable({ rows, servers: ['a', 'b'], reference: 'b' }),
    ['|  | a | b | a / b |', '| --- | --- | --- | --- |', '| start, ms | 20.0 (12.0..28.0) | 40.0 | 0.50 |', '| memory, MiB | – | 5.0 | – |'].join('\n'),
  );
  assert.equal(markdownTable({ rows, servers: ['a'], reference: undefined }).split('\n')[1], '| --- | --- |');
});
