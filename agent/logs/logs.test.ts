/** Reading and rotating logs in the CRI format. */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { fixedTimestamp, parseLogLine, timestampNs } from './line.ts';
import { readLog, readLogTail } from './read.ts';
import type { LogOptions } from './read.ts';
import { planRotation, rotate, rotateAll } from './rotate.ts';
import { tailStart } from './tail.ts';

const at = (second: number): string => `2026-01-02T03:04:${String(second).padStart(2, '0')}.000000001Z`;
const sample = [
  `${at(1)} stdout F one`,
  `${at(2)} stderr F two`,
  `${at(3)} stdout P thr`,
  `${at(4)} stdout F ee`,
  'not a log line',
  `${at(5)} stdout F `,
  `${at(6)} stdout F:tag six ü`,
].join('\n') + '\n';

const cases: [string, LogOptions, string][] = [
  ['everything, partial lines joined', {}, 'one\ntwo\nthree\n\nsix ü\n'],
  ['the last three lines; a line in parts is one', { tailLines: 3 }, 'three\n\nsix ü\n'],
  ['tail of nothing', { tailLines: 0 }, ''],
  ['a tail longer than the log', { tailLines: 100 }, 'one\ntwo\nthree\n\nsix ü\n'],
  ['one stream', { stream: 'stderr' }, 'two\n'],
  ['since a moment, inclusive', { sinceNs: timestampNs(at(5)) ?? 0n }, '\nsix ü\n'],
  ['a limit in bytes cuts a line', { limitBytes: 6 }, 'one\ntw'],
  ['timestamps, once per joined line', { timestamps: true, tailLines: 3 }, `${at(3)} three\n${at(5)} \n${at(6)} six ü\n`],
];
for (const [name, options, want] of cases) {
  test(`a log is read: ${name}`, async () => {
    await using dir = await temporary();
    await writeFile(join(dir.path, '0.log'), sample);
    assert.equal(await textOf(readLog(quietCtx(), join(dir.path, '0.log'), options)), want);
  });
}

test('a log that is not there is not-found, and an empty termination message', async () => {
  await assert.rejects(textOf(readLog(quietCtx(), '/nowhere/0.log', {})), (error) => isFault(error, 'not-found'));
  assert.equal(await readLogTail(quietCtx(), '/nowhere/0.log', { lines: 80, bytes: 2048 }), '');
});

test('the tail of a large log is right at every distance from its end', async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  const lines = Array.from({ length: 3000 }, (_, i) => `${at(i % 60)} stdout F ${'x'.repeat(i % 97)}${i}`);
  await writeFile(path, `${lines.join('\n')}\n`);
  await using file = await open(path, 'r');
  for (const count of [1, 2, 500, 1500, 2999, 3000, 3001]) {
    const rest = (await readFile(path)).subarray(await tailStart(file, count));
    assert.equal(rest.toString(), `${lines.slice(-count).join('\n')}\n`, `tail ${count}`);
  }
});

test('following goes on across a rotation and ends after the last words of a container that stopped', { timeout: 20_000 }, async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  await writeFile(path, `${at(1)} stdout F one\n`);
  let isRunning = true;
  const seen: string[] = [];
  for await (const piece of readLog(quietCtx(), path, { follow: true }, () => Promise.resolve(isRunning))) {
    seen.push(piece.toString());
    if (piece.includes('one')) {
      await appendFile(path, `${at(2)} stdout F two\n`);
      await rename(path, `${path}.20260102-030405`);
      await writeFile(path, `${at(3)} stdout F three\n`);
    } else if (piece.includes('three')) {
      isRunning = false;
      await appendFile(path, `${at(4)} stdout F last`);
      await appendFile(path, ' words\n');
    }
  }
  assert.equal(seen.join(''), 'one\ntwo\nthree\nlast words\n');
});

test('following ends with its context', { timeout: 20_000 }, async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  await writeFile(path, `${at(1)} stdout F one\n`);
  const stop = new AbortController();
  for await (const _ of readLog({ ...quietCtx(), signal: stop.signal }, path, { follow: true }, () => Promise.resolve(true))) setImmediate(() => stop.abort());
  assert.ok(stop.signal.aborted);
});

test('a termination message from the log is its last bytes', async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  await writeFile(path, Array.from({ length: 100 }, (_, i) => `${at(1)} stderr F line ${i}\n`).join(''));
  const tail = await readLogTail(quietCtx(), path, { lines: 80, bytes: 15 });
  assert.equal(tail, 'ine 98\nline 99\n'.slice(-15));
});

for (const [given, want] of [['2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000000000Z'], ['2026-01-02T03:04:05.12+00:00', '2026-01-02T03:04:05.120000000Z'], ['2026-01-02T03:04:05.123456789+02:00', '2026-01-02T03:04:05.123456789+02:00']] as const) {
  test(`${given} is shown as ${want}`, () => assert.equal(fixedTimestamp(given), want));
}

test('lines cut short are no log lines', () => {
  for (const text of ['', 'x', `${at(1)} stdout`, `${at(1)} other F x`, `${at(1)} stdout X x`]) assert.equal(parseLogLine(Buffer.from(text)), undefined, text);
});

test('a rotation renames, reopens, keeps the newest rotated file plain and compresses the older ones', async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  for (let round = 1; round <= 6; round++) {
    await writeFile(path, `content ${round}`);
    await rotate(path, 5, () => writeFile(path, ''), new Date(Date.UTC(2026, 0, 2, 3, 4, round)));
  }
  const names = (await readdir(dir.path)).toSorted();
  assert.deepEqual(names, ['0.log', '0.log.20260102-030403.gz', '0.log.20260102-030404.gz', '0.log.20260102-030405.gz', '0.log.20260102-030406']);
  assert.equal(gunzipSync(await readFile(join(dir.path, '0.log.20260102-030404.gz'))).toString(), 'content 4');
});

test('when the runtime cannot reopen its log, the log keeps its name', async () => {
  await using dir = await temporary();
  const path = join(dir.path, '0.log');
  await writeFile(path, 'content');
  await assert.rejects(rotate(path, 5, () => Promise.reject(new Error('no')), new Date()));
  assert.deepEqual(await readdir(dir.path), ['0.log']);
});

test('only logs that are full are rotated, and a container that has gone is no failure', async () => {
  await using dir = await temporary();
  await writeFile(join(dir.path, 'small.log'), 'x');
  await writeFile(join(dir.path, 'full.log'), 'x'.repeat(100));
  const reopened: string[] = [];
  const running = ['small', 'full', 'gone'].map((containerId) => ({ containerId, path: join(dir.path, `${containerId}.log`) }));
  await rotateAll(quietCtx(), { maxBytes: 100, maxFiles: 5, running: () => Promise.resolve(running), reopen: (_ctx, id) => Promise.resolve(void reopened.push(id)) });
  assert.deepEqual(reopened, ['full']);
});

test('unfinished work of an interrupted rotation is removed', () => {
  const plan = planRotation('0.log', ['0.log', '0.log.1', '0.log.1.gz', '0.log.2', '0.log.2.tmp', '1.log.1'], 5);
  assert.deepEqual(plan, { remove: ['0.log.1', '0.log.2.tmp'], compress: ['0.log.2'] });
});

async function textOf(pieces: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all).toString();
}

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'logs-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
