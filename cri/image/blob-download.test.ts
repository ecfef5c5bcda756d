/** A blob over several connections at once, and what is left of it when the download is interrupted. Loopback only. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { quietCtx } from '#host/log.ts';
import { fetchBlob } from './blob-fetch.ts';
import { BlobStore } from './blob-store.ts';
import { digestOf } from './digest.ts';
import type { BlobSize } from './ingest.ts';
import { parseReference } from './reference.ts';
import { FakeRegistry, startRange } from './registry.fake.ts';
import { Registry, type RegistryOptions } from './registry.ts';

const ctx = quietCtx();
const mebibyte = 1024 * 1024;
const data = randomBytes(10 * mebibyte + 12_345);
const blob: BlobSize = { digest: digestOf(data), sizeBytes: data.length };

interface Stage extends AsyncDisposable {
  readonly server: FakeRegistry;
  readonly blobs: BlobStore;
  readonly imagesDir: string;
  /** Between two pieces of 256 KiB of an answer. */
  readonly pace: { delayMs: number };
  /** Most requests that were open at once. */
  readonly busiest: () => number;
  fetch(ctx?: Ctx, blob?: BlobSize): Promise<void>;
}
type Answer = (request: IncomingMessage, response: ServerResponse) => Buffer;

/** A registry whose every connection is slow. */
async function stage(options: Partial<RegistryOptions> & { answer?: Answer } = {}): Promise<Stage> {
  const { answer = (request, response) => startRange(request, response, data), ...rest } = options;
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-download-'));
  const server = await FakeRegistry.start();
  const registry = new Registry({ certsDir: join(dir, 'certs'), retryDelayMs: 1, ...rest });
  const blobs = await BlobStore.open(join(dir, 'images'));
  let open = 0;
  let most = 0;
  const pace = { delayMs: 25 };
  server.handler = (request, response) => {
    open += 1;
    most = Math.max(most, open);
    const body = answer(request, response);
    void (async () => {
      for (let at = 0; at < body.length && !response.destroyed; at += 256 * 1024) {
        response.write(body.subarray(at, at + 256 * 1024));
        if (pace.delayMs > 0) await sleep(pace.delayMs);
      }
      open -= 1;
      response.end();
    })();
    return true;
  };
  return {
    server, blobs, pace,
    imagesDir: join(dir, 'images'),
    busiest: () => most,
    fetch: async (own = ctx, what = blob) => {
      const session = await registry.session({ reference: parseReference(`${server.host}/team/app:1`), auth: undefined });
      await fetchBlob(own, { blobs, session }, what);
      assert.deepEqual(await readdir(join(dir, 'images/ingest')), []);
    },
    [Symbol.asyncDispose]: async () => {
      registry.close();
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

test('a big blob that comes slowly is fetched over several connections, but no more than are allowed', async () => {
  await using at = await stage({ connectionsPerBlob: 2 });
  await at.fetch();
  assert.deepEqual(Buffer.from((await at.blobs.read(blob.digest)) ?? []), data);
  assert.ok(at.busiest() === 2 || at.busiest() === 3, `${at.busiest()}: one that was given up may not have closed yet`);
  assert.match(at.server.log.join('\n'), / bytes=[0-9]+-[0-9]+$/m);
});
test('one registry is not asked over more connections than it may be, by all downloads together', async () => {
  await using at = await stage({ connectionsPerRegistry: 2 });
  const other: BlobSize = { digest: digestOf('x'), sizeBytes: 1 };
  await Promise.all([at.fetch(), assert.rejects(at.fetch(ctx, other), /manifest/)]);
  assert.ok(at.busiest() === 2 || at.busiest() === 3, `${at.busiest()}: one that was given up may not have closed yet`);
});

const withoutRanges: readonly (readonly [how: string, answer: Answer, ranges: RegExp])[] = [
  ['sends the whole instead of a range', (_, response) => (response.writeHead(200, { 'content-length': data.length }), data), /^1$/],
  ['answers 416', (request, response) => {
    if (request.headers.range === undefined) return startRange(request, response, data);
    response.writeHead(416);
    return Buffer.alloc(0);
  }, /^1$/],
  ['sends other bytes than it says', (request, response) => {
    const part = startRange(request, response, data);
    return request.headers.range === undefined ? part : data.subarray(0, part.length);
  }, /^[1-9]$/],
  ['speaks of ranges of another blob', (request, response) => {
    if (request.headers.range === undefined) return startRange(request, response, data);
    response.writeHead(206, { 'content-range': 'bytes 4194304-8388607/9999999999' });
    return data.subarray(4_194_304, 8_388_608);
  }, /^1$/],
];
for (const [how, answer, ranges] of withoutRanges) {
  test(`a registry that ${how} costs no pull`, async () => {
    await using at = await stage({ answer });
    await at.fetch();
    assert.deepEqual(Buffer.from((await at.blobs.read(blob.digest)) ?? []), data);
    assert.match(String(at.server.count(/bytes=/)), ranges);
  });
}

/** Interrupts a download once it has fetched parts behind a gap; returns how many bytes were sent for it. */
async function interrupted(at: Stage): Promise<void> {
  const giveUp = new AbortController();
  const fetching = at.fetch({ ...ctx, signal: giveUp.signal });
  const stopped = assert.rejects(fetching, /enough/);
  while (at.server.count(/bytes=/) < 2) await sleep(10);
  await sleep(200);
  giveUp.abort(new Error('enough'));
  await stopped;
  at.pace.delayMs = 0;
  at.server.log.length = 0;
}
test('what came behind a gap is not fetched again after an interruption', async () => {
  await using at = await stage();
  await interrupted(at);
  assert.deepEqual((await readdir(join(at.imagesDir, 'ingest'))).length, 2, 'bytes and a note of what they are');
  await at.fetch();
  assert.deepEqual(Buffer.from((await at.blobs.read(blob.digest)) ?? []), data);
  const from = at.server.log.map((line) => Number(/bytes=([0-9]+)-/.exec(line)?.[1] ?? 0));
  assert.ok(!from.includes(0), at.server.log.join());
  assert.equal(new Set(from).size, from.length, 'no byte is asked for twice');
});
for (const [name, damage] of [
  ['whose note is damaged', (file) => writeFile(`${file}.parts`, '[1, "x"')],
  ['whose note speaks of other parts', (file) => writeFile(`${file}.parts`, '[1, 2, 3]')],
  ['whose note says more than there is', (file) => writeFile(`${file}.parts`, JSON.stringify([4 * mebibyte, 4 * mebibyte, data.length - 8 * mebibyte]))],
  ['whose bytes are others', (file) => writeFile(file, randomBytes(data.length))],
  ['that has lost its bytes', (file) => rm(file)],
  ['that has lost its note', (file) => rm(`${file}.parts`)],
] as readonly (readonly [string, (file: string) => Promise<void>])[]) {
  test(`a download ${name} starts over`, async () => {
    await using at = await stage({ answer: (request, response) => startRange(request, response, data) });
    await interrupted(at);
    await damage(join(at.imagesDir, 'ingest', blob.digest.replace(':', '-')));
    await at.fetch();
    assert.deepEqual(Buffer.from((await at.blobs.read(blob.digest)) ?? []), data);
  });
}
