/**
 * A streaming tar reader: bytes in, entries out; no files in sight. Reads ustar, pax (with global headers), GNU long names and base-256 numbers;
 * refuses sparse files and everything else it does not know, because a layer that is half understood is a wrong layer.
 *
 * The sink is called synchronously from `push`: entry, then its data in pieces (views of what was pushed: use or copy at once), then endEntry.
 */
import { badTar, blockBytes, parseHeader, parsePax, paxInteger, paxText, paxTime, tarString } from './tar-header.ts';
import type { RawHeader, TarEntry, TarEntryType } from './tar-header.ts';

export type { TarEntry, TarEntryType } from './tar-header.ts';

export interface TarSink {
  entry(entry: TarEntry): void;
  data(chunk: Uint8Array): void;
  endEntry(): void;
}

const entryTypes: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file', // "contiguous", which nobody has had since 1988
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** Long names and pax headers are held in memory; Go's reader has the same limit. */
const maxSpecialBytes = 1024 * 1024;
const xattrPrefix = 'SCHILY.xattr.';
const nothing: ReadonlyMap<string, Uint8Array> = new Map();
/** What a global header may set for all that follow. Names and sizes for many files at once make no sense, and could hide entries from other readers. */
const globalKeys = ['mtime', 'uid', 'gid'];

type State = 'header' | 'special' | 'data' | 'padding' | 'end';

export class TarReader {
  readonly #sink: TarSink;
  #state: State = 'header';
  /** A header or special content that is split over chunks. */
  readonly #partial = Buffer.alloc(blockBytes);
  #partialBytes = 0;
  #special: { flag: string; data: Buffer; filled: number } | undefined;
  #leftBytes = 0;
  #paddingBytes = 0;
  #zeroBlocks = 0;
  #pax: ReadonlyMap<string, Uint8Array> = nothing;
  #globalPax: ReadonlyMap<string, Uint8Array> = nothing;
  #longName: string | undefined;
  #longLink: string | undefined;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** True once the end-of-archive mark was seen; what follows it is ignored. */
  get hasEnded(): boolean {
    return this.#state === 'end';
  }

  /** Throws Fault invalid on damage, and whatever the sink throws; the reader is of no use after that. */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'header':
          at = this.#takeHeader(chunk, at);
          break;
        case 'special':
          at = this.#takeSpecial(chunk, at);
          break;
        case 'data':
          at = this.#takeData(chunk, at);
          break;
        case 'padding': {
          const taken = Math.min(this.#paddingBytes, chunk.length - at);
          this.#paddingBytes -= taken;
          at += taken;
          if (this.#paddingBytes === 0) this.#state = 'header';
          break;
        }
        case 'end':
          return;
      }
    }
  }

  /** No more bytes come. An archive without an end mark is accepted (as Go does), one that stops inside an entry is not. */
  end(): void {
    // The padding of the last entry may be missing.
    const isBetween = this.#state === 'end' || this.#state === 'padding' || (this.#state === 'header' && this.#partialBytes === 0);
    if (!isBetween || this.#longName !== undefined || this.#longLink !== undefined || this.#pax !== nothing) {
      throw badTar('unexpected end: the archive is cut off');
    }
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    if (this.#partialBytes === 0 && chunk.length - at >= blockBytes) {
      this.#header(chunk.subarray(at, at + blockBytes));
      return at + blockBytes;
    }
    const taken = Math.min(blockBytes - this.#partialBytes, chunk.length - at);
    this.#partial.set(chunk.subarray(at, at + taken), this.#partialBytes);
    this.#partialBytes += taken;
    if (this.#partialBytes === blockBytes) {
      this.#partialBytes = 0;
      this.#header(this.#partial);
    }
    return at + taken;
  }

  #takeData(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.#leftBytes, chunk.length - at);
    this.#leftBytes -= taken;
    this.#sink.data(chunk.subarray(at, at + taken));
    if (this.#leftBytes === 0) this.#finishEntry();
    return at + taken;
  }

  #finishEntry(): void {
    this.#state = this.#paddingBytes > 0 ? 'padding' : 'header';
    this.#sink.endEntry();
  }

  #takeSpecial(chunk: Uint8Array, at: number): number {
    const special = this.#special;
    if (special === undefined) throw badTar('no special header');
    const taken = Math.min(special.data.length - special.filled, chunk.length - at);
    special.data.set(chunk.subarray(at, at + taken), special.filled);
    special.filled += taken;
    if (special.filled === special.data.length) this.#finishSpecial(special);
    return at + taken;
  }

  #finishSpecial(special: { flag: string; data: Buffer }): void {
    this.#special = undefined;
    this.#state = this.#paddingBytes > 0 ? 'padding' : 'header';
    switch (special.flag) {
      case 'x':
        this.#pax = parsePax(special.data);
        break;
      case 'g':
        this.#globalPax = new Map([...this.#globalPax, ...[...parsePax(special.data)].filter(([key]) => globalKeys.includes(key))]);
        break;
      case 'L':
        this.#longName = tarString(special.data);
        break;
      default:
        this.#longLink = tarString(special.data);
    }
  }

  #header(block: Uint8Array): void {
    if (block[0] === 0 && block.every((byte) => byte === 0)) {
      this.#zeroBlocks += 1;
      if (this.#zeroBlocks === 2) this.#state = 'end';
      return;
    }
    if (this.#zeroBlocks > 0) throw badTar('content after a half end mark');
    const raw = parseHeader(block);
    if (raw.flag === 'x' || raw.flag === 'g' || raw.flag === 'L' || raw.flag === 'K') this.#beginSpecial(raw);
    else this.#beginEntry(raw);
  }

  #beginSpecial(raw: RawHeader): void {
    if (raw.sizeBytes < 0 || raw.sizeBytes > maxSpecialBytes) throw badTar(`a header of type ${raw.flag} has ${raw.sizeBytes} bytes`);
    this.#paddingBytes = padding(raw.sizeBytes);
    const special = { flag: raw.flag, data: Buffer.alloc(raw.sizeBytes), filled: 0 };
    if (raw.sizeBytes === 0) this.#finishSpecial(special);
    else {
      this.#special = special;
      this.#state = 'special';
    }
  }

  #beginEntry(raw: RawHeader): void {
    const entry = this.#entry(raw);
    this.#pax = nothing;
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#leftBytes = entry.sizeBytes;
    this.#paddingBytes = padding(entry.sizeBytes);
    this.#state = 'data';
    this.#sink.entry(entry);
    if (entry.sizeBytes === 0) this.#finishEntry();
  }

  #entry(raw: RawHeader): TarEntry {
    const pax = this.#pax;
    const settings = this.#globalPax === nothing ? pax : new Map([...this.#globalPax, ...pax]);
    const name = this.#longName ?? paxText(pax, 'path') ?? raw.name;
    if (raw.flag === 'S' || [...pax.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
      throw badTar(`${JSON.stringify(name)} is stored as a sparse file, which layers cannot have`);
    }
    let type = entryTypes[raw.flag];
    if (type === undefined) throw badTar(`${JSON.stringify(name)} is of the unknown type ${JSON.stringify(raw.flag)}`);
    if (raw.flag === '\0' && name.endsWith('/')) type = 'directory';
    const declaredBytes = paxInteger(pax, 'size') ?? raw.sizeBytes;
    if (declaredBytes < 0) throw badTar(`${JSON.stringify(name)} has a negative size`);
    return {
      name,
      type,
      mode: raw.mode & 0o7777,
      uid: id(paxInteger(settings, 'uid') ?? raw.uid, name),
      gid: id(paxInteger(settings, 'gid') ?? raw.gid, name),
      // Links and the like may declare a size; no content follows them (archive/tar, isHeaderOnlyType).
      sizeBytes: type === 'file' ? declaredBytes : 0,
      modified: paxTime(settings, 'mtime') ?? { seconds: BigInt(raw.modifiedSeconds), nanoseconds: 0 },
      linkName: this.#longLink ?? paxText(pax, 'linkpath') ?? raw.linkName,
      device: { major: raw.major, minor: raw.minor },
      xattrs: xattrsOf(pax),
    };
  }
}

const padding = (sizeBytes: number): number => (blockBytes - (sizeBytes % blockBytes)) % blockBytes;

function id(value: number, name: string): number {
  if (value < 0 || value > 0xffff_fffe) throw badTar(`${JSON.stringify(name)} belongs to the impossible id ${value}`);
  return value;
}

function xattrsOf(pax: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array> {
  if (pax === nothing) return nothing;
  const xattrs = [...pax].filter(([key]) => key.startsWith(xattrPrefix)).map(([key, value]) => [key.slice(xattrPrefix.length), value] as const);
  return xattrs.length === 0 ? nothing : new Map(xattrs);
}
