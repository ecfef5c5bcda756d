/** The text that Prometheus reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MetricRegistry } from './registry.ts';

test('counters, gauges and histograms are written with their labels, buckets adding up', () => {
  const registry = new MetricRegistry();
  registry.counter('pulled_bytes_total', 'Bytes pulled').add(3);
  const failed = registry.counter('failed_total', 'Failures', ['why']);
  failed.add(1, 'a "quoted\\\n" word');
  registry.gauge('sandboxes', 'Sandboxes', ['state'], () => [[2, 'ready'], [0, 'not-ready']]);
  const took = registry.histogram('took_seconds', 'How long', ['method'], [0.1, 1]);
  for (const seconds of [0.05, 0.1, 0.5, 2]) took.observe(seconds, 'Version');
  assert.equal(registry.text(), `# HELP pulled_bytes_total Bytes pulled
# TYPE pulled_bytes_total counter
pulled_bytes_total 3
# HELP failed_total Failures
# TYPE failed_total counter
failed_total{why="a \\"quoted\\\\\\n\\" word"} 1
# HELP sandboxes Sandboxes
# TYPE sandboxes gauge
sandboxes{state="ready"} 2
sandboxes{state="not-ready"} 0
# HELP took_seconds How long
# TYPE took_seconds histogram
took_seconds_bucket{method="Version",le="0.1"} 2
took_seconds_bucket{method="Version",le="1"} 3
took_seconds_bucket{method="Version",le="+Inf"} 4
took_seconds_sum{method="Version"} 2.65
took_seconds_count{method="Version"} 4
`);
});

test('a family without samples has its head, and a counter without labels begins at zero', () => {
  const registry = new MetricRegistry();
  registry.counter('a_total', 'A');
  registry.counter('b_total', 'B', ['x']);
  assert.equal(registry.text(), '# HELP a_total A\n# TYPE a_total counter\na_total 0\n# HELP b_total B\n# TYPE b_total counter\n');
});
