/** The node's HTTPS API from outside: who gets in, who does not, and what they read. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as http from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { failure } from '../kube/api-server.fake.ts';
import { makeCertificate } from '../kube/certificate.ts';
import { subresourcesOf } from './authz.ts';
import { findRoute } from './routes.ts';
import { ask, pod, times, world } from './server.fake.ts';
import { startHealthServer } from './server.ts';

test('strangers get 401 on every path, whether it exists or not', async () => {
  await using it = await world();
  for (const path of ['/pods', '/healthz', '/containerLogs/a/p/run', '/exec/a/p/run?command=sh', '/nowhere', '/']) {
    assert.deepEqual(await ask(it, path), { status: 401, text: 'Unauthorized' }, path);
    assert.deepEqual(await ask(it, path, { as: it.stranger }), { status: 401, text: 'Unauthorized' }, `${path} with a certificate of another authority`);
    assert.deepEqual(await ask(it, path, { token: 'bad' }), { status: 401, text: 'Unauthorized' }, `${path} with an unknown token`);
  }
  assert.deepEqual(await ask(it, '/pods', { token: 'odd' }), { status: 401, text: 'Unauthorized' }, 'when the API server cannot say who it is');
});

test('who is known but not allowed gets 403 with user, verb and subresources; finer rights suffice', async () => {
  await using it = await world();
  assert.deepEqual(await ask(it, '/pods', { as: it.user }), { status: 403, text: 'Forbidden (user=user, verb=get, resource=nodes, subresource(s)=[pods proxy])\n' });
  assert.deepEqual(await ask(it, '/run/a/p/c', { as: it.user, method: 'POST' }), { status: 403, text: 'Forbidden (user=user, verb=create, resource=nodes, subresource(s)=[proxy])\n' });
  assert.deepEqual(await ask(it, '/healthz', { as: it.user }), { status: 200, text: 'ok' });
  assert.deepEqual(await ask(it, '/healthz/../pods', { as: it.user }), { status: 403, text: 'Forbidden (user=user, verb=get, resource=nodes, subresource(s)=[pods proxy])\n' });
});

test('an API server that cannot decide is no permission', async () => {
  await using it = await world();
  it.api.script = () => failure(500, 'InternalError');
  assert.deepEqual(await ask(it, '/pods', { as: it.admin }), { status: 500, text: 'Authorization error (user=admin, verb=get, resource=nodes, subresource=pods)' });
});

test('verdicts are asked once, with the groups of the certificate and system:authenticated', async () => {
  await using it = await world();
  for (let i = 0; i < 3; i++) assert.equal((await ask(it, '/pods', { as: it.admin })).status, 200);
  const reviews = it.api.requests.filter(({ path }) => path.endsWith('/subjectaccessreviews'));
  assert.deepEqual(reviews.map(({ body }) => (body as { spec: unknown }).spec), [
    { user: 'admin', groups: ['team', 'system:authenticated'], resourceAttributes: { verb: 'get', version: 'v1', resource: 'nodes', subresource: 'pods', name: 'n1' } },
  ]);
});

const admitted: [string, number, string][] = [
  ['/healthz?verbose', 200, '[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n'],
  ['/healthz/syncloop', 200, 'ok'],
  ['/healthz/nonsense', 404, '404 page not found\n'],
  ['/configz', 200, '{"kubeletconfig":{"kind":"KubeletConfiguration"}}'],
  ['/runningpods/', 200, '{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}'],
  ['/containerLogs/a/p/run', 200, 'hello\nworld\n'],
  ['/containerLogs/a/p/run?tailLines=1&timestamps=true', 200, '2026-01-02T03:04:06.000000006Z world\n'],
  ['/containerLogs/a/p/run?tail=all&limitBytes=3&follow=true', 200, 'hel'],
  ['/containerLogs/a/p/run?follow=true', 200, 'hello\nworld\n'],
  ['/containerLogs/a/x/run', 404, 'pod "x" does not exist'],
  ['/containerLogs/a/p/x', 404, 'container "x" not found in pod "p"'],
  ['/containerLogs/a/p/wait', 400, 'container "wait" in pod "p" is waiting to start: ContainerCreating'],
  ['/containerLogs/a/p/run?previous=true', 400, 'previous terminated container "run" in pod "p" not found'],
  ['/containerLogs/a/p/run?tailLines=-1', 422, '{"message": "Invalid request."}'],
  ['/containerLogs/a/p/run?sinceSeconds=1&sinceTime=2026-01-02T03:04:06Z', 422, '{"message": "Invalid request."}'],
  ['/containerLogs/a/p/run?tailLines=x', 400, '{"message": "Unable to decode query."}'],
  ['/nowhere', 404, '404 page not found\n'],
];
test('who is allowed gets the answers of the kubelet', async () => {
  await using it = await world();
  for (const [path, status, text] of admitted) assert.deepEqual(await ask(it, path, { token: 'good' }), { status, text }, path);
  assert.deepEqual(JSON.parse((await ask(it, '/pods', { as: it.admin })).text), { kind: 'PodList', apiVersion: 'v1', metadata: {}, items: [pod] });
  assert.deepEqual(await ask(it, '/pods', { as: it.admin, method: 'DELETE' }), { status: 405, text: '405: Method Not Allowed' });
});

test('an authority that was replaced in its file stops counting without a restart', { timeout: 20_000 }, async () => {
  await using it = await world();
  assert.equal((await ask(it, '/pods', { as: it.admin })).status, 200);
  const fresh = await makeCertificate({ subject: { commonName: 'new' }, use: 'authority', ...times });
  await writeFile(join(it.dir, 'ca.crt'), fresh.certificatePem);
  while ((await ask(it, '/pods', { as: it.admin })).status !== 401) await new Promise((resolve) => setTimeout(resolve, 20));
});

test('the plain health server answers /healthz and nothing else', async () => {
  const server = await startHealthServer({ address: '127.0.0.1', port: 0, syncLoopProblem: () => 'stuck' });
  // By hand, for fetch does not send targets that are no URL.
  const get = async (target: string): Promise<[number, string]> => {
    const request = http.get({ host: '127.0.0.1', port: server.port, path: target, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return [response.statusCode ?? 0, await text(response)];
  };
  assert.deepEqual(await get('/healthz'), [500, '[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n']);
  assert.deepEqual(await get('/healthz/ping'), [200, 'ok']);
  for (const target of ['/pods', '//', '//[', 'http://']) assert.deepEqual(await get(target), [404, '404 page not found\n'], target);
  await server.close();
});

for (const [path, want] of [['/pods', 'pods proxy'], ['/podsx', 'proxy'], ['/metrics/cadvisor', 'metrics'], ['/logs/', 'log'], ['/%70ods', 'proxy'], ['/exec/a/b/c', 'proxy']] as const) {
  test(`${path} is guarded as ${want}`, () => assert.equal(subresourcesOf(path).join(' '), want));
}

test('names in paths are decoded once, and an encoded slash stays in its name', () => {
  const match = findRoute('GET', '/containerLogs/a/b%2fc/d%25');
  assert.ok(match !== 'not-found' && 'parameters' in match);
  assert.deepEqual(match.parameters, { namespace: 'a', pod: 'b/c', container: 'd%' });
});
