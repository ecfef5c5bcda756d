/** SPDY/3.1: frames and header blocks against bytes that Go's moby/spdystream made, damage of every kind, and sessions with a client. */
import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { isFault } from '#host/fault.ts';
import { type Channel, endChannel } from '../channel.ts';
import { eventually } from '../eventually.fake.ts';
import { Transport } from '../transport.ts';
import { FakeSpdyClient } from './client.fake.ts';
import { dataFrames, finFrame, type Frame, FrameReader, goAwayFrame, goAwayStatus, pingFrame, resetStatus, rstStreamFrame, synReplyFrame, windowUpdateFrame } from './frames.ts';
import { emptyHeaderBlock, type Headers, type InflateWindow, readHeaderBlock } from './header-block.ts';
import { SpdySession } from './session.ts';

/** Written by spdy.Framer of moby/spdystream 0.5.1, in this order: the header blocks are parts of one zlib stream. */
const golden = {
  synStream1: '80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff',
  synStream3: '800300010000001900000003000000000000c22ac5565c92925f5a02000000ffff',
  synStream5: '800300010100001600000005000000000000c22a072a811201000000ffff',
  headers1: '80030008000000160000000182cab014e41781f38e85818501000000ffff',
  data3: '000000030000000568656c6c6f',
  fin3: '0000000301000000',
  rst5: '80030003000000080000000500000005',
  ping1: '800300060000000400000001',
  goAway: '80030007000000080000000500000000',
  windowUpdate3: '80030009000000080000000300008000',
  settings: '80030004000000140000000200000004000000640000000700010000',
};
const goldenBytes = Buffer.from(Object.values(golden).join(''), 'hex');

/** What the golden frames say, with header blocks read and adjacent data joined. */
const expected: readonly object[] = [
  { kind: 'syn-stream', streamId: 1, isLast: false, headers: { streamtype: 'error' } },
  { kind: 'syn-stream', streamId: 3, isLast: false, headers: { streamtype: 'stdout' } },
  { kind: 'syn-stream', streamId: 5, isLast: true, headers: { streamtype: 'data' } },
  { kind: 'headers', streamId: 1, isLast: false, headers: { port: '8080' } },
  { kind: 'data', streamId: 3, isLast: false, text: 'hello' },
  { kind: 'data', streamId: 3, isLast: true, text: '' },
  { kind: 'rst-stream', streamId: 5, status: 5 },
  { kind: 'ping', id: 1 },
  { kind: 'goaway', lastStreamId: 5 },
  { kind: 'window-update', streamId: 3, bytes: 32768 },
  { kind: 'settings', initialWindowBytes: 65536 },
];

function told(frames: readonly Frame[]): object[] {
  let window: InflateWindow;
  const result: { kind: string; streamId?: number; text?: string; isLast?: boolean; headers?: object }[] = [];
  for (const frame of frames) {
    if (frame.kind === 'data') {
      const last = result.at(-1);
      const text = frame.bytes.toString();
      if (last?.kind === 'data' && last.isLast === false && text !== '') last.text += text;
      else result.push({ kind: 'data', streamId: frame.streamId, isLast: frame.isLast, text });
    } else if ('headerBlock' in frame) {
      const { headerBlock, ...rest } = frame;
      const read = readHeaderBlock(headerBlock, window);
      ({ window } = read);
      result.push({ ...rest, headers: Object.fromEntries(read.headers) });
    } else result.push(frame);
  }
  return result;
}

test('frames of a Go client are read, wherever the bytes are cut', () => {
  for (const size of [goldenBytes.length, 1, 2, 3, 7, 8, 9, 64]) {
    const reader = new FrameReader();
    const frames: Frame[] = [];
    for (let at = 0; at < goldenBytes.length; at += size) frames.push(...reader.push(goldenBytes.subarray(at, at + size)));
    assert.deepEqual(told(frames), expected, `in pieces of ${size}`);
  }
});

test('our frames are the bytes that a Go client writes and reads', () => {
  const cases: readonly (readonly [Buffer[], string])[] = [
    [dataFrames(3, Buffer.from('hello')), golden.data3], [[finFrame(3)], golden.fin3], [[rstStreamFrame(5, resetStatus.cancel)], golden.rst5],
    [[pingFrame(1)], golden.ping1], [[goAwayFrame(5, goAwayStatus.ok)], golden.goAway], [[windowUpdateFrame(3, 32768)], golden.windowUpdate3],
    // Read back by spdy.Framer: no headers, twice.
    [[synReplyFrame(1, emptyHeaderBlock(true)), synReplyFrame(3, emptyHeaderBlock(false))],
      '8003000200000014000000017801000400fbff00000000000000ffff800300020000001200000003000400fbff00000000000000ffff'],
  ];
  for (const [ours, theirs] of cases) assert.equal(Buffer.concat(ours).toString('hex'), theirs);
});

test('large data goes out in frames of 64 KiB', () => {
  const buffers = dataFrames(1, Buffer.alloc(150_000, 'x'));
  assert.deepEqual(buffers.map((each) => each.length), [8, 65536, 8, 65536, 8, 18928]);
});

test('what is not SPDY/3.1 is refused', () => {
  const block = (hex: string): string => {
    const length = (hex.length / 2 + 10).toString(16).padStart(6, '0');
    return `8003000100${length}00000001000000000000${hex}`;
  };
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['another version', '8002000600000004', /version 2/],
    ['a data frame of stream 0', '0000000000000001', /stream 0/],
    ['SYN_STREAM of stream 0', '80030001000000120000000000000000000078f9e3c6a7c20000', /stream 0/],
    ['a control frame of 16 MiB', '8003000100ffffff', /16777215 bytes/],
    ['a short RST_STREAM', '800300030000000400000001', /too short/],
    ['a short PING', '8003000600000000', /too short/],
    ['SETTINGS that announces more than it has', '8003000400000004ffffffff', /entries/],
    ['header block: another dictionary', block('78f9aaaaaaaa6260'), /dictionary/],
    ['header block: no zlib', block('ffff0000'), /zlib/],
    ['header block: nothing', block(''), /too short/],
    ['header block: garbage behind the head', block('78f9e3c6a7c2ffffffffffff'), /inflated/],
    // A stored block: more headers than there are bytes.
    ['header block: too many headers', block('7801000400fbffffffffff000000ffff'), /headers/],
    ['header block: a name longer than the block', block('7801000800f7ff00000001000000ff000000ffff'), /too early/],
  ];
  for (const [name, hex, message] of cases) {
    assert.throws(() => told(new FrameReader().push(Buffer.from(hex, 'hex'))), (error) => isFault(error, 'invalid') && message.test(error.message), name);
  }
});

test('a header block that inflates to megabytes is refused', async () => {
  const { constants, deflateRawSync } = await import('node:zlib');
  const bomb = Buffer.concat([Buffer.from('7801', 'hex'), deflateRawSync(Buffer.alloc(8 << 20), { finishFlush: constants.Z_SYNC_FLUSH })]);
  assert.ok(bomb.length < 16 * 1024);
  assert.throws(() => readHeaderBlock(bomb, undefined), (error) => isFault(error, 'invalid'));
});

/** A generator that gives the same numbers in each run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('damaged frames never do more than a refusal', () => {
  const random = randomNumbers(31);
  for (let round = 0; round < 4000; round++) {
    const bytes = Buffer.from(goldenBytes);
    for (let i = random(8); i >= 0; i--) bytes[random(bytes.length)] = random(256);
    const cut = bytes.subarray(random(3) === 0 ? random(bytes.length) : 0);
    const reader = new FrameReader();
    try {
      for (let at = 0; at < cut.length; ) {
        const end = at + 1 + random(40);
        told(reader.push(cut.subarray(at, end)));
        at = end;
      }
    } catch (error) {
      assert.ok(isFault(error, 'invalid'), String(error));
    }
  }
});

interface Served {
  readonly client: FakeSpdyClient;
  readonly transport: Transport;
  readonly session: SpdySession;
  readonly opened: { channel: Channel; headers: Headers }[];
  readonly served: Promise<void>;
}

function serve(accept: (headers: Headers) => boolean = () => true): Served {
  const [near, far] = duplexPair();
  const opened: Served['opened'] = [];
  const transport = new Transport(near);
  const session = new SpdySession(transport, (channel, headers) => {
    if (!accept(headers)) return false;
    opened.push({ channel, headers });
    return true;
  });
  const served = session.serve();
  served.catch(() => undefined);
  return { client: new FakeSpdyClient(far), transport, session, opened, served };
}

const never = new AbortController().signal;

test('a session that gets damaged frames ends with its client or with a refusal, and leaves no stream open', async () => {
  const random = randomNumbers(17);
  for (let round = 0; round < 300; round++) {
    const { client, opened, served } = serve(() => random(8) > 0);
    const bytes = Buffer.from(goldenBytes);
    for (let i = random(4); i > 0; i--) bytes[random(bytes.length)] = random(256);
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + random(80);
      client.socket.write(bytes.subarray(at, end));
      at = end;
    }
    await turn();
    for (const { channel } of opened) channel.end('answer');
    client.socket.end();
    await served.catch((error: unknown) => assert.ok(isFault(error, 'invalid'), String(error)));
    assert.ok(opened.every(({ channel }) => channel.destroyed));
  }
});

test('streams carry bytes both ways, each half closed on its own', async () => {
  const { client, opened, session, served } = serve();
  const streams = ['a', 'b'].map((name) => client.open({ streamtype: name }));
  await eventually(() => assert.deepEqual(streams.map((each) => each.isReplied), [true, true]));
  assert.deepEqual(opened.map(({ headers }) => headers.get('streamtype')), ['a', 'b']);
  const [first, second] = opened.map(({ channel }) => channel);
  streams[0]?.write('to the server');
  streams[0]?.end();
  let read = '';
  first!.on('data', (chunk: Buffer) => (read += chunk.toString()));
  await eventually(() => assert.deepEqual([read, first!.readableEnded], ['to the server', true]));
  first!.write('still open this way');
  second!.end('done');
  await eventually(() => assert.deepEqual(streams.map(({ received, isEnded }) => [received.toString(), isEnded]), [['still open this way', false], ['done', true]]));
  const ended = session.end({ signal: never });
  await eventually(() => assert.ok(client.isGoneAway && streams.every((each) => each.isEnded)));
  client.socket.end();
  await Promise.all([ended, served]);
});

test('pings are answered, resets close a stream, and a refused or reused id is reset', async () => {
  const { client, opened } = serve((headers) => headers.get('streamtype') !== 'unwanted');
  const good = client.open({ streamtype: 'good' });
  const refused = client.open({ streamtype: 'unwanted' });
  const even = client.open({ streamtype: 'even' }, 4);
  client.ping(7);
  client.ping(8);
  await eventually(() => assert.deepEqual([good.isReplied, refused.isReset, even.isReset, client.pongs], [true, true, true, [7]]));
  good.reset();
  await eventually(() => assert.ok(opened[0]?.channel.destroyed));
  const after = client.open({ streamtype: 'after' }, 7);
  await eventually(() => assert.ok(after.isReplied, 'the replies\' header blocks stay readable'));
});

test('a client that keeps windows gets what fits, and the rest when it has read', async () => {
  const { client, opened } = serve();
  client.announceWindow(1000);
  const stream = client.open({ streamtype: 'a' });
  await eventually(() => assert.equal(opened.length, 1));
  opened[0]!.channel.end(Buffer.alloc(2500, 'w'));
  await eventually(() => assert.equal(stream.received.length, 1000));
  client.ping(1);
  await eventually(() => assert.deepEqual(client.pongs, [1]));
  assert.equal(stream.received.length, 1000, 'nothing more without a window');
  client.widen(stream, 1200);
  await eventually(() => assert.equal(stream.received.length, 2200));
  client.widen(stream, 5000);
  await eventually(() => assert.deepEqual([stream.received.length, stream.isEnded], [2500, true]));
});

test('what nobody reads is bounded, and flows on when somebody does', async () => {
  const { client, opened } = serve();
  const [slow, quick] = [client.open({ streamtype: 'slow' }), client.open({ streamtype: 'quick' })];
  await eventually(() => assert.equal(opened.length, 2));
  const total = 8 << 20;
  for (let sent = 0; sent < total; sent += 65536) slow.write(Buffer.alloc(65536));
  quick.write('behind it');
  await eventually(() => assert.ok(opened[0]!.channel.readableLength >= 1 << 20));
  assert.ok(opened[0]!.channel.readableLength < (1 << 20) + (256 << 10), `${opened[0]!.channel.readableLength} bytes lie unread`);
  let read = 0;
  opened[0]!.channel.on('data', (chunk: Buffer) => (read += chunk.length));
  await eventually(() => assert.deepEqual([read, opened[1]!.channel.read()?.toString()], [total, 'behind it']));
});

test('a connection that breaks closes its streams, also while they are full', async () => {
  const { client, opened, served, transport } = serve();
  const stream = client.open({ streamtype: 'a' });
  await eventually(() => assert.equal(opened.length, 1));
  for (let sent = 0; sent < 4 << 20; sent += 65536) stream.write(Buffer.alloc(65536));
  await eventually(() => assert.ok(opened[0]!.channel.readableLength >= 1 << 20));
  transport.destroy();
  await eventually(() => assert.ok(opened[0]!.channel.destroyed));
  await served;
  await endChannel(opened[0]!.channel);
});

test('a client that does not speak SPDY is told so and left', async () => {
  const { client, opened, served } = serve();
  client.open({ streamtype: 'a' });
  await eventually(() => assert.equal(opened.length, 1));
  client.socket.write(Buffer.from('80020001000000ff', 'hex'));
  await assert.rejects(served, (error) => isFault(error, 'invalid'));
  await eventually(() => assert.ok(client.isGoneAway));
  assert.ok(opened[0]!.channel.destroyed);
});
