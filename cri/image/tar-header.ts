/**
 * The fields of a tar header block and of pax records: ustar, GNU and star layouts as Go's archive/tar reads them (the tool that made nearly every
 * layer). Pure.
 */
import { Fault } from '#host/fault.ts';

export const blockBytes = 512;

export type TarEntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'character' | 'block';

export interface TarEntry {
  readonly name: string;
  readonly type: TarEntryType;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content that follow; 0 for everything but files. */
  readonly sizeBytes: number;
  readonly modified: { readonly seconds: bigint; readonly nanoseconds: number };
  /** Target of a symlink or hard link. */
  readonly linkName: string;
  readonly device: { readonly major: number; readonly minor: number };
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export const badTar = (why: string): Fault => new Fault('invalid', `tar: ${why}`);

const asText = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');

/** Up to the first NUL. */
export function tarString(field: Uint8Array): string {
  const end = field.indexOf(0);
  return asText(end < 0 ? field : field.subarray(0, end));
}

/** Octal text, or base 256 when the first bit is set; throws for what is neither or does not fit a safe integer. */
function tarNumber(field: Uint8Array, what: string): number {
  const first = field[0] ?? 0;
  if ((first & 0x80) !== 0) return base256(field, what);
  const digits = tarString(field).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw badTar(`${what} is not an octal number (${JSON.stringify(digits)})`);
  return Number.parseInt(digits, 8);
}

function base256(field: Uint8Array, what: string): number {
  const first = field[0] ?? 0;
  const isNegative = (first & 0x40) !== 0;
  let value = BigInt(isNegative ? (first & 0x7f) - 0x80 : first & 0x7f);
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) throw badTar(`${what} is out of range`);
  return Number(value);
}

/** Some old tars summed signed bytes. */
function checksumIsRight(block: Uint8Array): boolean {
  const wanted = tarNumber(block.subarray(148, 156), 'checksum');
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < blockBytes; i++) {
    const byte = i >= 148 && i < 156 ? 32 : (block[i] as number); // below blockBytes: it is there
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  return wanted === unsigned || wanted === signed;
}

export interface RawHeader {
  readonly flag: string;
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly modifiedSeconds: number;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
}

/** A header block that is not all zeros. Throws when it is none. */
export function parseHeader(block: Uint8Array): RawHeader {
  if (!checksumIsRight(block)) throw badTar('a header has a wrong checksum: this is no tar, or it is damaged');
  const magic = asText(block.subarray(257, 263));
  const isUstar = magic === 'ustar\0';
  const isStar = isUstar && asText(block.subarray(508, 512)) === 'tar\0';
  const prefix = isStar ? tarString(block.subarray(345, 476)) : isUstar ? tarString(block.subarray(345, 500)) : '';
  const name = tarString(block.subarray(0, 100));
  const hasDevice = isUstar || magic === 'ustar ';
  return {
    flag: String.fromCharCode(block[156] ?? 0),
    name: prefix === '' ? name : `${prefix}/${name}`,
    mode: tarNumber(block.subarray(100, 108), 'mode'),
    uid: tarNumber(block.subarray(108, 116), 'uid'),
    gid: tarNumber(block.subarray(116, 124), 'gid'),
    sizeBytes: tarNumber(block.subarray(124, 136), 'size'),
    modifiedSeconds: tarNumber(block.subarray(136, 148), 'mtime'),
    linkName: tarString(block.subarray(157, 257)),
    major: hasDevice ? tarNumber(block.subarray(329, 337), 'device number') : 0,
    minor: hasDevice ? tarNumber(block.subarray(337, 345), 'device number') : 0,
  };
}

/** `<length> <key>=<value>\n` …; values are bytes (xattrs). */
export function parsePax(data: Uint8Array): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const digits = space < 0 ? '' : asText(data.subarray(at, space));
    const length = /^[0-9]{1,9}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < 5 || end > data.length || data[end - 1] !== 0x0a) throw badTar('a pax header is damaged');
    const equals = data.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end || equals === space + 1) throw badTar('a pax header is damaged');
    const key = asText(data.subarray(space + 1, equals));
    const value = data.subarray(equals + 1, end - 1);
    const isName = key === 'path' || key === 'linkpath' || key === 'uname' || key === 'gname';
    if (key.includes('\0') || (isName && value.includes(0))) throw badTar(`the pax record ${JSON.stringify(key)} contains a NUL`);
    records.set(key, value);
    at = end;
  }
  return records;
}

export function paxText(records: ReadonlyMap<string, Uint8Array>, key: string): string | undefined {
  const value = records.get(key);
  return value === undefined || value.length === 0 ? undefined : asText(value);
}

export function paxInteger(records: ReadonlyMap<string, Uint8Array>, key: string): number | undefined {
  const text = paxText(records, key);
  if (text === undefined) return undefined;
  const value = /^-?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw badTar(`the pax record ${key} is not a number (${JSON.stringify(text.slice(0, 40))})`);
  return value;
}

/** Seconds with a decimal fraction, maybe negative: `-1.5` is half a second before second -1. */
export function paxTime(records: ReadonlyMap<string, Uint8Array>, key: string): TarEntry['modified'] | undefined {
  const text = paxText(records, key);
  if (text === undefined) return undefined;
  const match = /^(-?)([0-9]{1,18})(?:\.([0-9]*))?$/.exec(text);
  if (match === null) throw badTar(`the pax record ${key} is not a time (${JSON.stringify(text.slice(0, 40))})`);
  const [, sign, whole = '0', fraction = ''] = match;
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign !== '-') return { seconds: BigInt(whole), nanoseconds };
  return nanoseconds === 0 ? { seconds: -BigInt(whole), nanoseconds } : { seconds: -BigInt(whole) - 1n, nanoseconds: 1_000_000_000 - nanoseconds };
}
