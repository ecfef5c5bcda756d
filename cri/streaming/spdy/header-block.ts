/**
 * Header blocks of SPDY/3.1. Pure: the zlib context that the blocks of one direction share is a value.
 *
 * Each block is a part of one zlib stream and ends at a sync flush, that is at a byte boundary. So a block can be inflated alone when the
 * dictionary is what was inflated before it, and its memory is bounded by what we allow. Our own blocks say nothing, and need no compressor.
 *
 * Source: SPDY Protocol Draft 3.1, section 2.6.10; RFC 1950 and 1951 for the stream.
 */
import { constants, inflateRawSync } from 'node:zlib';
import { Fault } from '#host/fault.ts';

/** Lower-case names. */
export type Headers = ReadonlyMap<string, string>;

/** What the next block may refer to: undefined before the first. */
export type InflateWindow = Buffer | undefined;

const windowBytes = 32 * 1024;
/** A small block can inflate to a thousand times its size; what clients send has a few hundred bytes. */
const maxHeaderBytes = 16 * 1024;
const maxHeaders = 100;

/** Both sides know these words before the first block. */
const dictionaryWords =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection ' +
  'content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host ' +
  'if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range ' +
  'referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url ' +
  'public set-cookie keep-alive origin';
const dictionaryTail =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content' +
  '301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable' +
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,' +
  'application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

export const dictionary = Buffer.concat([...dictionaryWords.split(' ').map((word) => counted(word.replace('_', ' '))), Buffer.from(dictionaryTail, 'latin1')]);
/** Adler-32 of the dictionary, as a zlib stream names it. */
const dictionaryId = 0xe3c6a7c2;

function counted(text: string): Buffer {
  const word = Buffer.from(text, 'latin1');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(word.length);
  return Buffer.concat([length, word]);
}

/** Fault invalid for a block that is no such part, or too long. Blocks have to be read in the order of their frames, also those that nobody needs. */
export function readHeaderBlock(block: Buffer, window: InflateWindow): { readonly headers: Headers; readonly window: Buffer } {
  const { known, deflated } = window === undefined ? beginning(block) : { known: window, deflated: block };
  let inflated: Buffer;
  try {
    inflated = inflateRawSync(deflated, {
      ...(known.length > 0 ? { dictionary: known } : {}),
      flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: maxHeaderBytes,
    });
  } catch (error) {
    throw new Fault('invalid', 'SPDY: a header block cannot be inflated', error);
  }
  return { headers: parseHeaders(inflated), window: Buffer.concat([known, inflated]).subarray(-windowBytes) };
}

/** The two bytes of RFC 1950, and the four that name a dictionary. */
function beginning(block: Buffer): { known: Buffer; deflated: Buffer } {
  if (block.length < 2) throw new Fault('invalid', 'SPDY: the first header block is too short');
  const [method, flags] = [block.readUInt8(0), block.readUInt8(1)];
  if ((method & 0x0f) !== 8 || (method * 256 + flags) % 31 !== 0) throw new Fault('invalid', 'SPDY: the first header block is no zlib stream');
  if ((flags & 0x20) === 0) return { known: Buffer.alloc(0), deflated: block.subarray(2) };
  if (block.length < 6 || block.readUInt32BE(2) !== dictionaryId) throw new Fault('invalid', 'SPDY: the header blocks use another dictionary');
  return { known: dictionary, deflated: block.subarray(6) };
}

/** A count, then name and value in turn, each with its length before it. */
function parseHeaders(block: Buffer): Headers {
  let at = 0;
  const number = (): number => {
    if (block.length < at + 4) throw new Fault('invalid', 'SPDY: a header block ends too early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (block.length < at + length) throw new Fault('invalid', 'SPDY: a header block ends too early');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  const count = number();
  if (count > maxHeaders) throw new Fault('invalid', `SPDY: ${count} headers; at most ${maxHeaders} are read`);
  const headers = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    headers.set(name, text());
  }
  return headers;
}

/** zlib's beginning: deflate, a window of 32 KiB, no dictionary. */
const zlibHead = Buffer.from([0x78, 0x01]);
/** A stored block of four bytes, which say that there are no headers, and the empty stored block of a sync flush: readers hand on what they have there. */
const noHeaders = Buffer.from([0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff]);

/** A block without headers. */
export const emptyHeaderBlock = (isFirst: boolean): Buffer => (isFirst ? Buffer.concat([zlibHead, noHeaders]) : noHeaders);
