/** The distribution API against registries that stall, lie, cut off, redirect and refuse. Loopback only. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AuthConfig } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { explain, isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { fetchBlob } from './blob-fetch.ts';
import { BlobStore } from './blob-store.ts';
import { digestOf } from './digest.ts';
import type { BlobSize } from './ingest.ts';
import { parseReference } from './reference.ts';
import { FakeRegistry, sendRange, type Handler } from './registry.fake.ts';
import { Registry, type RegistryOptions, type RegistrySession } from './registry.ts';

const ctx = quietCtx();
const data = randomBytes(900_000);
const blob: BlobSize = { digest: digestOf(data), sizeBytes: data.length };
const password: AuthConfig = { username: 'u', password: 'p', auth: '', serverAddress: '', identityToken: '', registryToken: '' };

interface Stage extends AsyncDisposable {
  readonly server: FakeRegistry;
  readonly blobs: BlobStore;
  readonly dir: string;
  session(options?: { auth?: AuthConfig; name?: string }): Promise<RegistrySession>;
}
async function stage(options: Partial<RegistryOptions> = {}): Promise<Stage> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-registry-'));
  const server = await FakeRegistry.start();
  server.addBlob(data);
  const registry = new Registry({ certsDir: join(dir, 'certs'), retryDelayMs: 1, ...options });
  return {
    server,
    dir,
    blobs: await BlobStore.open(join(dir, 'images')),
    session: ({ auth, name = `${server.host}/team/app:1` } = {}) => registry.session({ reference: parseReference(name), auth }),
    [Symbol.asyncDispose]: async () => {
      registry.close();
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
/** Runs `misbehave` for the first `times` requests of blobs. */
function firstBlobs(server: FakeRegistry, times: number, misbehave: Handler): void {
  let left = times;
  server.handler = (request, response) => {
    if (!(request.url ?? '').includes('/blobs/') || left === 0) return false;
    left -= 1;
    return misbehave(request, response);
  };
}
const fetched = async (at: Stage, outer: Ctx = ctx, session?: RegistrySession): Promise<Uint8Array | undefined> => {
  await fetchBlob(outer, { blobs: at.blobs, session: session ?? (await at.session()) }, blob);
  return at.blobs.read(blob.digest);
};

test('a broken connection is taken up where it broke', async () => {
  await using at = await stage();
  firstBlobs(at.server, 2, (request, response) => {
    const from = Number(/bytes=([0-9]+)/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from === 0 ? 200 : 206, { 'content-length': data.length - from, 'content-range': `bytes ${from}-${data.length - 1}/${data.length}` });
    response.write(data.subarray(from, from + 300_000), () => setTimeout(() => response.destroy(), 20));
    return true;
  });
  assert.deepEqual(await fetched(at), data);
  assert.equal(at.server.count(/blobs\/\S+ bytes=[1-9]/), 2);
});
test('an attempt that was interrupted is continued by the next one, also by another process', async () => {
  await using at = await stage();
  const giveUp = new AbortController();
  firstBlobs(at.server, 1, (_, response) => {
    response.writeHead(200, { 'content-length': data.length });
    response.write(data.subarray(0, 600_000), () => setTimeout(() => giveUp.abort(new Error('enough')), 50));
    return true;
  });
  await assert.rejects(fetched(at, { ...ctx, signal: giveUp.signal }), /enough/);
  const others = await BlobStore.open(join(at.dir, 'images'));
  await fetchBlob(ctx, { blobs: others, session: await at.session() }, blob);
  assert.deepEqual(await others.read(blob.digest), data);
  assert.match(at.server.log.at(-1) ?? '', /bytes=[1-9]/);
});
test('a registry that cannot do ranges sends it all again', async () => {
  await using at = await stage();
  let requests = 0;
  firstBlobs(at.server, 5, (_, response) => {
    requests += 1;
    response.writeHead(200, { 'content-length': data.length });
    if (requests === 1) response.write(data.subarray(0, 300_000), () => setTimeout(() => response.destroy(), 20));
    else response.end(data);
    return true;
  });
  assert.deepEqual(await fetched(at), data);
});
test('wrong content is refused with both digests, and nothing of it is kept', async () => {
  await using at = await stage();
  const wrong = Buffer.from(data);
  wrong[5] = (wrong[5] ?? 0) ^ 1;
  firstBlobs(at.server, 9, (request, response) => {
    sendRange(request, response, wrong);
    return true;
  });
  await assert.rejects(fetched(at), (error) => {
    assert.match(explain(error), new RegExp(`blob from 127.* wrong digest: expected ${blob.digest} .* got ${digestOf(wrong)}`));
    return isFault(error, 'invalid');
  });
  assert.deepEqual(await readdir(join(at.dir, 'images/ingest')), []);
  assert.equal(at.blobs.has(blob.digest), false);
});
test('damage in what an earlier attempt left costs a new download, not the pull', async () => {
  await using at = await stage();
  {
    await using ingest = await at.blobs.ingest(ctx, blob);
    const part = ingest.take() ?? assert.fail();
    await ingest.write(part, randomBytes(1000));
    await ingest.release(part);
  }
  assert.deepEqual(await fetched(at), data);
});
test('more bytes than the manifest says are refused at once', async () => {
  await using at = await stage();
  firstBlobs(at.server, 9, (_, response) => {
    response.writeHead(200);
    response.end(Buffer.concat([data, data]));
    return true;
  });
  await assert.rejects(fetched(at), (error) => /larger than the 900000 bytes/.test(explain(error)) && isFault(error, 'invalid'));
});
test('a registry that stops sending is a progress timeout', async () => {
  await using at = await stage({ progressTimeoutMs: 60 });
  firstBlobs(at.server, 99, (_, response) => {
    response.writeHead(200, { 'content-length': data.length });
    response.flushHeaders();
    return true;
  });
  await assert.rejects(fetched(at), (error) => isFault(error, 'timeout') && /progress timeout: no data for/.test(error.message));
});
test('a stall in the middle is overcome by a new connection', async () => {
  await using at = await stage({ progressTimeoutMs: 2000 });
  firstBlobs(at.server, 1, (_, response) => {
    response.writeHead(200, { 'content-length': data.length });
    response.write(data.subarray(0, 500_000));
    setTimeout(() => response.destroy(), 200);
    return true;
  });
  assert.deepEqual(await fetched(at), data);
});
test('a redirect to another host takes no credentials along', async () => {
  await using at = await stage();
  await using store = await FakeRegistry.start();
  let seen: string | undefined = 'nothing';
  store.handler = (request, response) => {
    seen = request.headers.authorization;
    sendRange(request, response, data);
    return true;
  };
  at.server.handler = (request, response) => {
    if (request.headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': 'Basic realm="R"' }).end();
    else response.writeHead(307, { location: `http://localhost:${store.host.split(':')[1]}/signed?x=1` }).end();
    return true;
  };
  await fetched(at, ctx, await at.session({ auth: password }));
  assert.equal(seen, undefined);
});
test('endless redirects end', async () => {
  await using at = await stage();
  firstBlobs(at.server, 99, (request, response) => {
    response.writeHead(302, { location: request.url }).end();
    return true;
  });
  await assert.rejects(fetched(at), /redirects more than 10 times/);
});
for (const status of [429, 500, 502, 503]) {
  test(`${status} is asked again`, async () => {
    await using at = await stage();
    firstBlobs(at.server, 2, (_, response) => {
      response.writeHead(status, status === 429 ? { 'retry-after': '0' } : {}).end();
      return true;
    });
    assert.deepEqual(await fetched(at), data);
  });
}
test('404 and 403 are not, and say what the registry said', async () => {
  await using at = await stage();
  await assert.rejects((await at.session()).resolve(ctx, []), (error) => {
    assert.match(explain(error), /^127\.0\.0\.1:[0-9]+: manifest 1: 404 Not Found \(MANIFEST_UNKNOWN: unknown\)$/);
    return isFault(error, 'not-found');
  });
  assert.equal(at.server.log.length, 1);
  at.server.handler = (_, response) => {
    response.writeHead(403).end('<html>');
    return true;
  };
  await assert.rejects((await at.session()).resolve(ctx, []), (error) => isFault(error, 'forbidden'));
  assert.equal(at.server.log.length, 2);
});
test('a manifest with a digest that its content does not have is refused', async () => {
  await using at = await stage();
  at.server.handler = (_, response) => {
    response.writeHead(200, { 'docker-content-digest': blob.digest }).end('{}');
    return true;
  };
  await assert.rejects((await at.session()).resolve(ctx, []), new RegExp(`wrong digest: expected ${blob.digest}`));
});
test('a tag that is known is only asked for its digest', async () => {
  await using at = await stage();
  const { manifestDigest } = at.server.addImage('team/app', ['1'], []);
  const session = await at.session();
  const found = await session.resolve(ctx, []);
  assert.equal(found.digest, manifestDigest);
  assert.equal((await session.resolve(ctx, [found.digest])).data, undefined);
  assert.equal((await session.resolve(ctx, [blob.digest])).data?.length, found.data?.length);
  assert.deepEqual(at.server.log.map((line) => line.split(' ')[0]), ['GET', 'HEAD', 'HEAD', 'GET']);
});
test('a mirror is told which registry is meant; when it fails the next is asked, and all are named', async () => {
  await using at = await stage();
  await using mirror = await FakeRegistry.start();
  await mkdir(join(at.dir, 'certs/example.test'), { recursive: true });
  await writeFile(join(at.dir, 'certs/example.test/hosts.toml'), `server = "http://${at.server.host}"\n[host."http://${mirror.host}"]`);
  const name = 'example.test/team/app:1';
  await assert.rejects((await at.session({ name })).resolve(ctx, []), new RegExp(`http://${mirror.host}: .*404.*; http://${at.server.host}: .*404`));
  assert.deepEqual(mirror.log, ['GET /v2/team/app/manifests/1?ns=example.test']);
  at.server.addImage('team/app', ['1'], []);
  await (await at.session({ name })).resolve(ctx, []);

  mirror.handler = (request, response) => {
    sendRange(request, response, randomBytes(data.length));
    return true;
  };
  assert.deepEqual(await fetched(at, ctx, await at.session({ name })), data, 'a mirror with wrong content is passed over');
});
test('a mirror that may not resolve tags is not asked for one', async () => {
  await using at = await stage();
  await using mirror = await FakeRegistry.start();
  await mkdir(join(at.dir, 'certs/example.test'), { recursive: true });
  await writeFile(join(at.dir, 'certs/example.test/hosts.toml'), `server = "http://${at.server.host}"\n[host."http://${mirror.host}"]\ncapabilities = ["pull"]`);
  at.server.addImage('team/app', ['1'], []);
  await (await at.session({ name: 'example.test/team/app:1' })).resolve(ctx, []);
  assert.deepEqual(mirror.log, []);
});
test('nobody listening is said in a word', async () => {
  await using at = await stage();
  await assert.rejects((await at.session({ name: '127.0.0.1:1/a:1' })).resolve(ctx, []), /^RegistryError: https:\/\/127\.0\.0\.1:1: connection refused$/);
});
test('a registry without TLS that should have it is told apart from a broken one', async () => {
  await using at = await stage();
  await mkdir(join(at.dir, 'certs/example.test'), { recursive: true });
  await writeFile(join(at.dir, 'certs/example.test/hosts.toml'), `server = "https://${at.server.host}"`);
  await assert.rejects((await at.session({ name: 'example.test/a:1' })).resolve(ctx, []), /does not speak TLS/);
});
