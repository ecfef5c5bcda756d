/** What the server tells of itself: metrics as Prometheus reads them, spans as a collector takes them; crictl's own spans are the measure of ours. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { request } from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { startCollector } from '../harness/collector.ts';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet } from '../harness/nodelet.ts';
import { privateDir } from '../harness/private.ts';
import { busyboxImage, testRegistry } from '../harness/registry.ts';
import { crictlFor } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const mine = needs('root', 'bundle', 'cri', 'conmon');

async function get(socketPath: string, url: string): Promise<{ status: number; type: string; body: string }> {
  return await new Promise((resolve, reject) => {
    request({ socketPath, path: url }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => {
        resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '', body: Buffer.concat(chunks).toString() });
      });
    }).once('error', reject).end();
  });
}

/** The value of the sample that begins so, undefined when there is none. */
const sample = (body: string, head: string): number | undefined => {
  const line = body.split('\n').find((each) => each.startsWith(`${head} `));
  return line === undefined ? undefined : Number(line.slice(head.length + 1));
};

test('calls, pulls, programs and pods are counted, on a socket for its owner alone', mine, () => nothingLeft(async () => {
  const place = await privateDir('e2e-nlt');
  await using undo = new AsyncDisposableStack();
  undo.defer(() => place.remove());
  await using registry = await testRegistry();
  const socket = path.join(place.dir, 'metrics.sock');
  await using nodelet = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts, config: { metrics: { address: `unix://${socket}` } } });
  await using crictl = await crictlFor(nodelet.socket);
  assert.equal((await stat(socket)).mode & 0o777, 0o600);
  await crictl.run(['pull', busyboxImage]);
  await crictl.run(['runp', await crictl.file('pod.json', { metadata: { name: 'counted', namespace: 'e2e', uid: 'counted', attempt: 0 }, linux: {} })]);
  assert.notEqual((await crictl.output(['inspect', 'f00'])).exitCode, 0);
  const { status, type, body } = await get(socket, '/metrics');
  assert.deepEqual([status, type], [200, 'text/plain; version=0.0.4; charset=utf-8']);
  for (const line of body.trimEnd().split('\n')) assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+)$/);
  const calls = (method: string, code: string): number | undefined => sample(body, `nodelet_cri_rpc_duration_seconds_count{method="${method}",code="${code}"}`);
  assert.deepEqual([calls('PullImage', 'OK'), calls('RunPodSandbox', 'OK'), calls('ContainerStatus', 'NOT_FOUND')], [1, 1, 1]);
  assert.equal(sample(body, 'nodelet_cri_rpc_duration_seconds_bucket{method="PullImage",code="OK",le="+Inf"}'), 1);
  assert.equal(sample(body, 'nodelet_cri_rpcs_in_flight{method="PullImage"}'), 0);
  assert.equal(sample(body, 'nodelet_cri_sandboxes{state="ready"}'), 1);
  assert.equal(sample(body, 'nodelet_cri_images'), 1);
  assert.ok((sample(body, 'nodelet_cri_image_pull_bytes_total') ?? 0) > 100_000);
  assert.ok((sample(body, 'nodelet_program_duration_seconds_count{program="bridge"}') ?? 0) > 0);
  assert.ok((sample(body, 'process_resident_memory_bytes') ?? 0) > 10_000_000);
  assert.equal((await get(socket, '/')).status, 404);
}));

test('a call that comes with a trace becomes a span below its caller’s, and one without none', mine, () => nothingLeft(async () => {
  await using collector = await startCollector();
  await using nodelet = await startNodelet({ mode: 'cri', config: { tracing: { endpoint: collector.endpoint } } });
  await using crictl = await crictlFor(nodelet.socket);
  await crictl.run(['pods']);
  const traced = ['--enable-tracing', '--tracing-endpoint', collector.endpoint];
  await crictl.run([...traced, 'ps']);
  await crictl.output([...traced, 'inspect', 'f00']);
  const { spans } = collector;
  const ours = (name: string): typeof spans => spans.filter((each) => each.service === 'nodelet' && each.name === `runtime.v1.RuntimeService/${name}`);
  await eventually('the spans have come', () => [ours('ListContainers').length, ours('ContainerStatus').length], ([lists, statuses]) => lists === 1 && statuses === 1);
  const [list] = ours('ListContainers');
  const caller = spans.find((each) => each.spanId === list?.parentSpanId);
  assert.notEqual(caller?.service, 'nodelet');
  assert.deepEqual([caller?.name, caller?.traceId], [list?.name, list?.traceId]);
  assert.ok(caller !== undefined && list !== undefined && list.startNs >= caller.startNs - 1_000_000n && list.endNs <= caller.endNs + 1_000_000n && list.endNs > list.startNs, 'it lies within the caller’s');
  assert.equal(ours('ContainerStatus')[0]?.statusCode, 2);
  assert.deepEqual(ours('ListPodSandbox'), []);
}));
