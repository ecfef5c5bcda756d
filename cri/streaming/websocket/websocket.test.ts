/** WebSocket frames: the examples of RFC 6455, every way of cutting, what has to be refused, and damage. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { closeCode, closeFrame, messageFrame, pingFrame, type Piece, PieceReader, pongFrame } from './frames.ts';
import { acceptance, isHandshake } from './handshake.ts';

const mask = Buffer.from('37fa213d', 'hex');

/** A client's frame; `flags` are FIN, the reserved bits and the opcode. */
function clientFrame(flags: number, payload: Buffer, options: { masked?: boolean; length?: Buffer } = {}): Buffer {
  const short = payload.length < 126 ? payload.length : payload.length < 65536 ? 126 : 127;
  const long = Buffer.alloc(short === 126 ? 2 : short === 127 ? 8 : 0);
  if (short === 126) long.writeUInt16BE(payload.length);
  if (short === 127) long.writeBigUInt64BE(BigInt(payload.length));
  if (options.masked === false) return Buffer.concat([Buffer.from([flags, short]), long, payload]);
  return Buffer.concat([Buffer.from([flags, 0x80 | short]), options.length ?? long, mask, Buffer.from(payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0)))]);
}

/** Messages put together again, and everything else by its kind. */
function told(pieces: readonly Piece[]): string[] {
  const result: string[] = [];
  let message = '';
  for (const piece of pieces) {
    if (piece.kind === 'message') {
      message = (piece.isFirst ? '' : message) + piece.bytes.toString('latin1');
      if (piece.isLast) result.push(`message ${message.length > 40 ? message.length : message}`);
    } else result.push(piece.kind === 'ping' ? `ping ${piece.bytes.toString()}` : piece.kind);
  }
  return result;
}

const conversation = Buffer.concat([
  clientFrame(0x81, Buffer.from('Hello')), clientFrame(0x82, Buffer.alloc(0)), clientFrame(0x02, Buffer.from('in ')), clientFrame(0x89, Buffer.from('are you there')),
  clientFrame(0x00, Buffer.from('three ')), clientFrame(0x80, Buffer.from('parts')), clientFrame(0x82, Buffer.alloc(300, 'a')), clientFrame(0x82, Buffer.alloc(70_000, 'b')),
  clientFrame(0x8a, Buffer.alloc(0)), clientFrame(0x88, Buffer.from([0x03, 0xe8])),
]);
const expected = ['message Hello', 'message ', 'ping are you there', 'message in three parts', 'message 300', 'message 70000', 'pong', 'close'];

test('the masked example of the RFC is read', () => {
  assert.deepEqual(told(new PieceReader().push(Buffer.from('818537fa213d7f9f4d5158', 'hex'))), ['message Hello']);
});

test('messages, parts and control frames are read, wherever the bytes are cut', () => {
  for (const size of [conversation.length, 1, 2, 3, 5, 13, 14, 4096]) {
    const reader = new PieceReader();
    const pieces: Piece[] = [];
    for (let at = 0; at < conversation.length; at += size) pieces.push(...reader.push(Buffer.from(conversation.subarray(at, at + size))));
    assert.deepEqual(told(pieces), expected, `in pieces of ${size}`);
  }
});

test('a frame of any announced length costs nothing before it arrives', () => {
  const huge = Buffer.concat([Buffer.from([0x82, 0xff]), Buffer.from('000fffffffffffff', 'hex'), mask, Buffer.from('abc')]);
  const pieces = new PieceReader().push(huge);
  assert.deepEqual(pieces.map((piece) => piece.kind === 'message' && [piece.bytes.length, piece.isFirst, piece.isLast]), [[3, true, false]]);
});

test('what a client must not send is refused', () => {
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['not masked', clientFrame(0x81, Buffer.from('x'), { masked: false }), /not masked/],
    ['an extension', clientFrame(0xc1, Buffer.from('x')), /extension/],
    ['an unknown data frame', clientFrame(0x83, Buffer.from('x')), /unknown kind 3/],
    ['an unknown control frame', clientFrame(0x8b, Buffer.from('x')), /unknown kind 11/],
    ['a ping in parts', clientFrame(0x09, Buffer.from('x')), /control frame/],
    ['a long ping', clientFrame(0x89, Buffer.alloc(126)), /control frame/],
    ['a continuation of nothing', clientFrame(0x80, Buffer.from('x')), /out of order/],
    ['a message inside of a message', Buffer.concat([clientFrame(0x01, Buffer.from('x')), clientFrame(0x81, Buffer.from('y'))]), /out of order/],
    ['a length of 64 bits', Buffer.concat([Buffer.from([0x82, 0xff]), Buffer.alloc(8, 0xff), mask]), /too long/],
  ];
  for (const [name, bytes, message] of cases) {
    assert.throws(() => new PieceReader().push(bytes), (error) => isFault(error, 'invalid') && message.test(error.message), name);
  }
});

test('damaged frames never do more than a refusal', () => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const small = conversation.subarray(0, 120);
  for (let round = 0; round < 4000; round++) {
    const bytes = Buffer.from(small);
    for (let i = random(6); i >= 0; i--) bytes[random(bytes.length)] = random(256);
    const reader = new PieceReader();
    try {
      for (let at = random(3); at < bytes.length; ) {
        const end = at + 1 + random(30);
        told(reader.push(bytes.subarray(at, end)));
        at = end;
      }
    } catch (error) {
      assert.ok(isFault(error, 'invalid'), String(error));
    }
  }
});

test('our frames are those of the RFC', () => {
  const cases: readonly (readonly [Buffer[], string])[] = [
    [messageFrame('text', [Buffer.from('Hel'), Buffer.from('lo')]), '810548656c6c6f'],
    [messageFrame('binary', [Buffer.alloc(256)]).slice(0, 1), '827e0100'],
    [messageFrame('binary', [Buffer.alloc(65536)]).slice(0, 1), '827f0000000000010000'],
    [[pongFrame(Buffer.from('Hello'))], '8a0548656c6c6f'], [[pingFrame], '8900'], [[closeFrame(closeCode.normal)], '880203e8'],
  ];
  for (const [ours, theirs] of cases) assert.equal(Buffer.concat(ours).toString('hex'), theirs);
});

test('the handshake is that of the RFC', () => {
  const headers = { 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
  assert.equal(acceptance('dGhlIHNhbXBsZSBub25jZQ==', '')['Sec-WebSocket-Accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  assert.deepEqual([isHandshake('GET', headers), isHandshake('POST', headers), isHandshake('GET', { ...headers, 'sec-websocket-version': '8' }), isHandshake('GET', { 'sec-websocket-version': '13' })], [true, false, false, false]);
});
