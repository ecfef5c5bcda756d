/** The bytes between us and a plugin: as others write them, cut anywhere, and damaged. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { FrameDecoder } from './frames.ts';
import { muxFormat, muxFrames, pluginChannel, runtimeChannel } from './mux.ts';
import { decodeMessage, encodeRequest, encodeResponse, maxMessageBytes, messageFormat } from './ttrpc.ts';

const request = { service: 's', method: 'M', payload: Uint8Array.of(1, 2), timeoutNano: 5n };
/** Length 12, stream 1, type request, flags 0; then fields 1 to 4. */
const requestBytes = '0000000c' + '00000001' + '01' + '00' + '0a0173' + '12014d' + '1a020102' + '2005';

test('a request is written as ttrpc 1.2 writes it', () => {
  assert.equal(encodeRequest(1, request).toString('hex'), requestBytes);
});

test('a message travels as a frame with its channel and length', () => {
  assert.equal(Buffer.concat(muxFrames(runtimeChannel, Buffer.from('abc'))).toString('hex'), '0000000200000003616263');
});

test('a message longer than the plugins\' buffer is its beginning and then the rest', () => {
  const lengths = (bytes: number): number[] => muxFrames(pluginChannel, Buffer.alloc(bytes)).filter((_part, i) => i % 2 === 1).map((part) => part.length);
  assert.deepEqual(lengths(4096), [4096]);
  assert.deepEqual(lengths(4097), [4096, 1]);
  assert.deepEqual(lengths(1_000_000), [4096, 995_904]);
});

test('a stream is understood wherever it is cut', () => {
  const stream = Buffer.concat([...muxFrames(pluginChannel, encodeRequest(3, request)), ...muxFrames(runtimeChannel, encodeResponse(5, { status: { code: 2, message: 'no' }, payload: new Uint8Array(0) }))]);
  for (let cut = 0; cut <= stream.length; cut++) {
    const frames = new FrameDecoder(muxFormat);
    const messages = new FrameDecoder(messageFormat);
    const bodies = [stream.subarray(0, cut), stream.subarray(cut)].flatMap((chunk) => [...frames.push(chunk)].flatMap(({ body }) => [...messages.push(body)]));
    assert.deepEqual(
      bodies.map(({ header, body }) => decodeMessage(header, body)).map((message) => ('stream' in message ? `${message.kind} ${message.stream}` : message.kind)),
      ['request 3', 'response 5'],
    );
  }
});

test('what is too long is refused by its header, before it is there', () => {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(maxMessageBytes + 11, 4);
  assert.throws(() => [...new FrameDecoder(muxFormat).push(header)], (error) => isFault(error, 'invalid'));
  assert.throws(() => encodeRequest(1, { ...request, payload: new Uint8Array(maxMessageBytes) }), (error) => isFault(error, 'exhausted'));
});

const bad: readonly { name: string; hex: string; kind: string }[] = [
  { name: 'an even stream', hex: '00000000' + '00000002' + '01' + '00', kind: 'bad-request' },
  { name: 'a streaming call', hex: '00000000' + '00000001' + '01' + '02', kind: 'bad-request' },
  { name: 'a request that is no protobuf', hex: '00000002' + '00000001' + '01' + '00' + '0aff', kind: 'bad-request' },
  { name: 'data of a stream', hex: '00000000' + '00000001' + '03' + '04', kind: 'unknown' },
  { name: 'a type of the future', hex: '00000000' + '00000001' + '09' + '00', kind: 'unknown' },
];
for (const { name, hex, kind } of bad) {
  test(`${name} is told apart`, () => {
    const [frame] = [...new FrameDecoder(messageFormat).push(Buffer.from(hex, 'hex'))];
    assert.equal(decodeMessage(frame!.header, frame!.body).kind, kind);
  });
}

/** Repeatable noise (xorshift32). */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

test('no bytes do worse than end the stream with an error that says so', () => {
  const good = Buffer.concat(muxFrames(pluginChannel, encodeResponse(1, { status: undefined, payload: Uint8Array.of(1, 2, 3, 4) })));
  let refused = 0;
  for (let seed = 1; seed <= 4000; seed++) {
    const next = noise(seed);
    const bytes = seed % 2 === 0 ? Buffer.from(Array.from({ length: next() % 64 }, () => next() & 0xff)) : Buffer.from(good);
    if (seed % 2 === 1) for (let i = 0; i < 3; i++) bytes[next() % bytes.length] = next() & 0xff;
    const frames = new FrameDecoder(muxFormat);
    const messages = new FrameDecoder(messageFormat);
    try {
      for (const { body } of frames.push(bytes)) for (const frame of messages.push(body)) decodeMessage(frame.header, frame.body);
    } catch (error) {
      assert.ok(isFault(error, 'invalid'), String(error));
      refused++;
    }
  }
  assert.ok(refused > 100, `${refused} were refused`);
});
