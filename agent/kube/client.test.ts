/** Requests to an API server that refuses, stalls, restarts and rotates. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { Fault, isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { failure, FakeApiServer } from './api-server.fake.ts';
import { ApiError, isConflict, isNotFound } from './api-error.ts';
import { createKubeClient } from './client.ts';
import type { KubeClient } from './client.ts';
import type { ApiAccess, Credentials } from './kubeconfig.ts';
import { ApiObjectSource } from './object-cache.ts';
import { ApiEventRecorder } from './events.ts';
import { ApiTokenSource } from './token-requests.ts';
import type { ConfigMap, Node } from './types.ts';

const limit = { timeout: 30_000 };

async function world(): Promise<AsyncDisposable & { api: FakeApiServer; client: KubeClient; ctx: Ctx }> {
  const api = await FakeApiServer.start();
  const client = createKubeClient(api.access(), { requestTimeoutMs: 2_000 });
  const stop = new AbortController();
  return {
    api, client, ctx: { ...quietCtx(), signal: stop.signal },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      client.close();
      await api[Symbol.asyncDispose]();
    },
  };
}

test('a hundred parallel requests share one connection, besides a watch', limit, async () => {
  await using it = await world();
  it.api.put('/api/v1/nodes', { metadata: { name: 'n' } });
  const watching = it.client.watch(it.ctx, '/api/v1/pods')[Symbol.asyncIterator]();
  watching.next().catch(() => undefined);
  const answers = await Promise.all(Array.from({ length: 100 }, () => it.client.get<Node>(it.ctx, '/api/v1/nodes/n')));
  assert.equal(new Set(answers.map(({ metadata }) => metadata?.name)).size, 1);
  assert.ok(it.api.connections <= 2, `${it.api.connections} connections`); // the streams of one are limited, so that watches never block a request
});

test('refusals carry status, reason and the words of the server', limit, async () => {
  await using it = await world();
  await assert.rejects(it.client.get(it.ctx, '/api/v1/nodes/none'), (error) => isNotFound(error) && error.reason === 'NotFound' && isFault(error, 'not-found'));
  const made = it.api.put('/api/v1/nodes', { metadata: { name: 'n' } });
  it.api.put('/api/v1/nodes', { metadata: { name: 'n' } });
  await assert.rejects(it.client.replace(it.ctx, '/api/v1/nodes/n', made), isConflict);
  await assert.rejects(it.client.create(it.ctx, '/api/v1/nodes', { metadata: { name: 'n' } }), (error) => error instanceof ApiError && error.kind === 'already-exists');
  it.api.script = () => failure(403, 'Forbidden', 'no way');
  await assert.rejects(it.client.get(it.ctx, '/api/v1/nodes/n'), { kind: 'forbidden', message: 'GET /api/v1/nodes/n: no way' });
});

test('patches say their kind, a delete its grace and the uid it means', limit, async () => {
  await using it = await world();
  it.api.put('/api/v1/nodes', { metadata: { name: 'n', labels: { a: '1' } } });
  await it.client.patch(it.ctx, '/api/v1/nodes/n', 'strategic', { metadata: { labels: { b: '2' } } });
  await it.client.delete(it.ctx, '/api/v1/nodes/n', { gracePeriodSeconds: 0, uid: 'u' });
  const [patch, remove] = it.api.requests;
  assert.equal(patch?.contentType, 'application/strategic-merge-patch+json');
  assert.deepEqual(remove?.body, { kind: 'DeleteOptions', apiVersion: 'v1', gracePeriodSeconds: 0, preconditions: { uid: 'u' } });
});

test('a server that does not answer is a timeout, one that is not there unavailable, and a cancelled call says so', limit, async () => {
  await using it = await world();
  it.api.script = () => ({ status: 0, body: undefined });
  const client = createKubeClient(it.api.access(), { requestTimeoutMs: 100 });
  await assert.rejects(client.get(it.ctx, '/api/v1/nodes/n'), (error) => isFault(error, 'timeout'));
  const stop = new AbortController();
  const call = client.get({ ...it.ctx, signal: stop.signal }, '/api/v1/nodes/n');
  stop.abort();
  await assert.rejects(call, (error) => isFault(error, 'canceled'));
  client.close();
  const nowhere = createKubeClient({ ...it.api.access(), server: new URL('https://127.0.0.1:1') });
  await assert.rejects(nowhere.get(it.ctx, '/api/v1/nodes/n'), { kind: 'unavailable', message: 'GET /api/v1/nodes/n: https://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1' });
});

test('a read is repeated on a new connection when the old one has died', limit, async () => {
  await using it = await world();
  it.api.put('/api/v1/nodes', { metadata: { name: 'n' } });
  await it.client.get(it.ctx, '/api/v1/nodes/n');
  it.api.dropConnections();
  assert.ok(await it.client.get(it.ctx, '/api/v1/nodes/n'));
});

test('new credentials mean a new connection, and refused ones are fetched anew', limit, async () => {
  await using it = await world();
  it.api.put('/api/v1/nodes', { metadata: { name: 'n' } });
  let serial = 1;
  let forgotten = 0;
  const access: ApiAccess = {
    server: it.api.access().server,
    credentials: async () => ({ ...(await it.api.access().credentials()), fingerprint: `c${serial}` }) satisfies Credentials,
    forget: () => void forgotten++,
  };
  const client = createKubeClient(access);
  await client.get(it.ctx, '/api/v1/nodes/n');
  await client.get(it.ctx, '/api/v1/nodes/n');
  assert.equal(it.api.connections, 1);
  serial = 2;
  await client.get(it.ctx, '/api/v1/nodes/n');
  assert.equal(it.api.connections, 2);
  it.api.script = () => failure(401, 'Unauthorized');
  await assert.rejects(client.get(it.ctx, '/api/v1/nodes/n'), (error) => isFault(error, 'unauthorized'));
  assert.equal(forgotten, 1);
  client.close();
});

test('an object is asked for by name, watched alone, and read from memory from then on', limit, async () => {
  await using it = await world();
  const path = '/api/v1/namespaces/a/configmaps';
  it.api.put(path, { metadata: { name: 'cm' }, data: { k: '1' } });
  const changed = Promise.withResolvers<string>();
  const source = new ApiObjectSource(it.ctx, it.client, { onChange: (kind, namespace, name) => changed.resolve(`${kind} ${namespace}/${name}`) });
  assert.deepEqual((await source.configMap(it.ctx, 'a', 'cm'))?.data, { k: '1' });
  while (it.api.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const asked = it.api.requests.length;
  for (const { path: requested, query } of it.api.requests.slice(1)) assert.deepEqual([requested, query.get('fieldSelector')], [path, 'metadata.name=cm']);
  it.api.put(path, { metadata: { name: 'cm' }, data: { k: '2' } });
  assert.equal(await changed.promise, 'ConfigMap a/cm');
  assert.deepEqual((await source.configMap(it.ctx, 'a', 'cm'))?.data, { k: '2' });
  it.api.remove(`${path}/cm`);
  let last: ConfigMap | undefined = {};
  while (last !== undefined) {
    last = await source.configMap(it.ctx, 'a', 'cm');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(it.api.requests.length, asked);
  source.dropUnused(performance.now() + 301_000);
  while (it.api.watches > 0) await new Promise((resolve) => setTimeout(resolve, 5));
});

test('immutable objects are not watched, absent ones are undefined, refusals are thrown', limit, async () => {
  await using it = await world();
  it.api.put('/api/v1/namespaces/a/secrets', { metadata: { name: 's' }, immutable: true, data: {} });
  const source = new ApiObjectSource(it.ctx, it.client);
  assert.ok(await source.secret(it.ctx, 'a', 's'));
  assert.ok(await source.secret(it.ctx, 'a', 's'));
  assert.equal(it.api.requests.length, 1);
  it.api.script = ({ query }) => (query.get('watch') === null ? failure(403, 'Forbidden', 'no relationship found between node and this object') : undefined);
  await assert.rejects(source.secret(it.ctx, 'a', 't'), (error) => isFault(error, 'forbidden'));
});

test('events are created, counted by patch, and made anew when the first has expired', limit, async () => {
  await using it = await world();
  const recorder = new ApiEventRecorder(it.ctx, it.client, 'n1');
  const about = { kind: 'Pod', namespace: 'a', name: 'p', uid: 'u' };
  const sent = async (count: number): Promise<void> => {
    while (it.api.requests.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  recorder.event(about, 'Warning', 'BackOff', 'again');
  recorder.event(about, 'Warning', 'BackOff', 'again');
  await sent(2);
  const [created, counted] = it.api.requests;
  assert.deepEqual([created?.method, counted?.method, (counted?.body as { count?: number }).count], ['POST', 'PATCH', 2]);
  it.api.remove(counted?.path ?? '');
  recorder.event(about, 'Warning', 'BackOff', 'again');
  await sent(4);
  assert.deepEqual(it.api.requests.slice(2).map(({ method, body }) => [method, (body as { count?: number }).count]), [['PATCH', 3], ['POST', 3]]);
});

test('a token is asked for once and bound to its pod; when it cannot be renewed the old one serves until its end', limit, async () => {
  await using it = await world();
  let status = 201;
  it.api.script = ({ path }) => (path.endsWith('/token') ? { status, body: status === 201 ? { status: { token: 't1', expirationTimestamp: new Date(Date.now() + 1_000).toISOString() } } : { kind: 'Status', code: status } } : undefined);
  const tokens = new ApiTokenSource(it.client);
  const pod = { metadata: { namespace: 'a', name: 'p', uid: 'u' }, spec: { containers: [], serviceAccountName: 'sa' } };
  assert.equal(await tokens.token(it.ctx, pod, 'aud', 600), 't1');
  assert.deepEqual([it.api.requests[0]?.path, it.api.requests[0]?.body], ['/api/v1/namespaces/a/serviceaccounts/sa/token', {
    apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: ['aud'], expirationSeconds: 600, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' } },
  }]);
  status = 503;
  assert.equal(await tokens.token(it.ctx, pod, 'aud', 600), 't1', 'still good');
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await assert.rejects(tokens.token(it.ctx, pod, 'aud', 600), (error) => error instanceof Fault);
});
