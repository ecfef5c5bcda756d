/** Which calls are traced, and as part of what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newSpan, parseTraceParent } from './trace-context.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

test('a traceparent as W3C Trace Context writes it is read, and nothing else', () => {
  assert.deepEqual(parseTraceParent(`00-${traceId}-${spanId}-01`), { traceId, spanId, isSampled: true });
  assert.deepEqual(parseTraceParent(`00-${traceId}-${spanId}-00`), { traceId, spanId, isSampled: false });
  assert.deepEqual(parseTraceParent(`cc-${traceId}-${spanId}-03-what-comes-later`), { traceId, spanId, isSampled: true });
  const zeros = '0'.repeat(32);
  for (const header of ['', `00-${traceId}-${spanId}`, `ff-${traceId}-${spanId}-01`, `00-${traceId}-${spanId}-01-more`, `00-${zeros}-${spanId}-01`, `00-${traceId}-${zeros.slice(16)}-01`, `00-${traceId.toUpperCase()}-${spanId}-01`]) {
    assert.equal(parseTraceParent(header), undefined, header);
  }
});

test('the caller decides whether its call is recorded; the rate is for calls without a trace', () => {
  const parent = { traceId, spanId, isSampled: true };
  assert.deepEqual({ ...newSpan(parent, 0), spanId: '' }, { traceId, spanId: '', parentSpanId: spanId });
  assert.equal(newSpan({ ...parent, isSampled: false }, 1_000_000), undefined);
  assert.equal(newSpan(undefined, 100, () => 0.0001), undefined);
  const first = newSpan(undefined, 100, () => 0.00009);
  assert.match(`${first?.traceId} ${first?.spanId} ${first?.parentSpanId}`, /^[0-9a-f]{32} [0-9a-f]{16} $/);
});
