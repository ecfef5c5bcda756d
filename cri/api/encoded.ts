/** Messages in wire form: made once, sent often. */

declare const of: unique symbol;
/** The bytes of one message. */
export type Encoded<Message> = Uint8Array & { readonly [of]?: Message };

export const encoded = <Message>(codec: { encode(message: Message): { finish(): Uint8Array } }, message: Message): Encoded<Message> => codec.encode(message).finish();

/**
 * A response whose only field is `repeated X … = 1`, which is what every list of the CRI and every chunk of its Stream… is:
 * for each item the tag of field 1 with wire type LEN, its length and itself (protobuf.dev, Encoding).
 */
export function encodedList(items: readonly Uint8Array[]): Buffer {
  let size = 0;
  for (const item of items) size += headBytes(item.length) + item.length;
  const list = Buffer.allocUnsafe(size);
  let at = 0;
  for (const item of items) {
    at = writeHead(list, at, item.length);
    list.set(item, at);
    at += item.length;
  }
  return list;
}

const tagOfFieldOne = 0x0a;

function headBytes(length: number): number {
  let bytes = 2;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) bytes += 1;
  return bytes;
}

function writeHead(into: Buffer, at: number, length: number): number {
  let next = into.writeUInt8(tagOfFieldOne, at);
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) next = into.writeUInt8((rest & 0x7f) | 0x80, next);
  return into.writeUInt8(rest, next);
}
