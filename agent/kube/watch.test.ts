/** List and watch against an API server that breaks in the ways real ones do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { quietCtx } from '#host/log.ts';
import { failure, FakeApiServer } from './api-server.fake.ts';
import { createKubeClient } from './client.ts';
import type { Pod } from './types.ts';
import { listWatch } from './watch.ts';

const pods = '/api/v1/namespaces/a/pods';
const pod = (name: string, extra: object = {}): object => ({ metadata: { name, ...extra }, spec: { nodeName: 'n1' } });

interface Following extends AsyncDisposable {
  readonly server: FakeApiServer;
  readonly news: string[];
  until(what: string): Promise<void>;
}

async function following(options: { http1?: boolean } = {}): Promise<Following> {
  const server = await FakeApiServer.start(options);
  const stop = new AbortController();
  const ctx: Ctx = { ...quietCtx(), signal: stop.signal };
  const client = createKubeClient(server.access());
  const news: string[] = [];
  let wake = (): void => undefined;
  const say = (text: string): void => {
    news.push(text);
    wake();
  };
  const label = (object: Pod): string => `${object.metadata?.name}/${object.metadata?.uid}`;
  const done = listWatch<Pod>(ctx, client, { path: '/api/v1/pods', fieldSelector: 'spec.nodeName=n1' }, {
    replace: (items) => say(`= ${items.map(label).join(' ')}`),
    upsert: (object) => say(`+ ${label(object)}`),
    remove: (object) => say(`- ${label(object)}`),
    failed: () => say('failed'),
  });
  return {
    server,
    news,
    until: async (what) => {
      while (!news.includes(what)) {
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await done;
      client.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

const limit = { timeout: 20_000 };

for (const http1 of [false, true]) {
  test(`news arrive in order, other nodes' pods do not (${http1 ? 'HTTP/1.1' : 'HTTP/2'})`, limit, async () => {
    await using it = await following({ http1 });
  const { server, news, until } = it;
    await until('= ');
    server.put(pods, pod('one', { uid: 'u1' }));
    server.put(pods, { metadata: { name: 'elsewhere' }, spec: { nodeName: 'n2' } });
    server.put(pods, pod('one', { uid: 'u1', labels: { changed: 'yes' } }));
    server.remove(`${pods}/one`);
    await until('- one/u1');
    assert.deepEqual(news, ['= ', '+ one/u1', '+ one/u1', '- one/u1']);
    });
}

test('a watch that ends is taken up where it stopped, without listing again', limit, async () => {
  await using it = await following();
  const { server, news, until } = it;
  await until('= ');
  server.put(pods, pod('one', { uid: 'u1' }));
  await until('+ one/u1');
  server.endWatches();
  server.put(pods, pod('two', { uid: 'u2' }));
  await until('+ two/u2');
  assert.equal(news.filter((text) => text.startsWith('=')).length, 1);
  assert.equal(server.requests.filter(({ query }) => query.get('watch') === null).length, 1);
});

test('a broken connection costs nothing but time: what happened meanwhile arrives', limit, async () => {
  await using it = await following();
  const { server, news, until } = it;
  await until('= ');
  while (server.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  server.dropConnections();
  server.put(pods, pod('late', { uid: 'u3' }));
  await until('+ late/u3');
  assert.deepEqual(news, ['= ', 'failed', '+ late/u3']);
});

test('a bookmark moves the place from which the next watch starts', limit, async () => {
  await using it = await following();
  const { server, until } = it;
  await until('= ');
  while (server.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  server.compact();
  server.bookmark();
  server.put(pods, pod('mark', { uid: 'u4' }));
  await until('+ mark/u4');
  server.endWatches();
  server.put(pods, pod('after', { uid: 'u5' }));
  await until('+ after/u5');
  assert.equal(server.requests.filter(({ query }) => query.get('watch') === null).length, 1, 'listed once');
  assert.ok(server.requests.filter(({ query }) => query.get('watch') !== null).every(({ query }) => query.get('allowWatchBookmarks') === 'true'));
});

test('history that the server has forgotten (410) is listed anew, and a recreated pod is another pod', limit, async () => {
  await using it = await following();
  const { server, news, until } = it;
  await until('= ');
  server.put(pods, pod('one', { uid: 'old' }));
  server.put(pods, pod('two', { uid: 'u2' }));
  await until('+ two/u2');
  server.script = ({ query }) => (query.get('watch') === null ? undefined : failure(503, 'ServiceUnavailable'));
  server.endWatches();
  await until('failed');
  server.remove(`${pods}/one`);
  server.put(pods, pod('one', { uid: 'new' }));
  server.remove(`${pods}/two`);
  server.compact();
  server.script = () => undefined;
  await until('= one/new');
  assert.deepEqual(news.at(-1), '= one/new');
});

test('an ERROR event with code 410 in the stream lists again too', limit, async () => {
  await using it = await following();
  const { server, news, until } = it;
  await until('= ');
  while (server.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  let scripted = 0;
  server.script = ({ query }) => {
    if (query.get('watch') === null || scripted++ > 0) return undefined;
    return { status: 200, body: { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' } } };
  };
  server.endWatches();
  server.put(pods, pod('x', { uid: 'u6' }));
  await until('= x/u6');
  assert.ok(!news.includes('failed'), 'expiry is part of normal life');
});

test('a name that comes back with another uid is a remove and an upsert even without a DELETED event', limit, async () => {
  await using it = await following();
  const { server, news, until } = it;
  await until('= ');
  server.put(pods, pod('one', { uid: 'old' }));
  server.put(pods, pod('one', { uid: 'new' }));
  await until('+ one/new');
  assert.deepEqual(news, ['= ', '+ one/old', '- one/old', '+ one/new']);
});

test('long lists come in pages', limit, async () => {
  const server = await FakeApiServer.start();
  for (let i = 0; i < 1200; i++) server.put(pods, pod(`p${i}`));
  const stop = new AbortController();
  const client = createKubeClient(server.access());
  const listed = Promise.withResolvers<number>();
  const done = listWatch<Pod>({ ...quietCtx(), signal: stop.signal }, client, { path: '/api/v1/pods' }, {
    replace: (items) => listed.resolve(new Set(items.map((item) => item.metadata?.name)).size),
    upsert: () => undefined,
    remove: () => undefined,
  });
  assert.equal(await listed.promise, 1200);
  assert.equal(server.requests.filter(({ query }) => query.get('limit') === '500').length, 3);
  stop.abort();
  await done;
  client.close();
  await server[Symbol.asyncDispose]();
});
