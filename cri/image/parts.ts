/**
 * The parts of a blob that is coming in over one or several connections: which bytes are here, and who fetches the rest. Pure.
 *
 * A part is filled from its beginning, so what is here of it is a number. Parts are given out from the front, so that the digest, which is computed in
 * order, never waits for more than a few of them.
 */

const mebibyte = 1024 * 1024;
/** A request costs a round trip; a part should take several of them. */
const minPartBytes = 4 * mebibyte;
const maxPartBytes = 16 * mebibyte;

export interface Part {
  /** Where it begins in the blob; `end` is behind its last byte. */
  readonly start: number;
  readonly end: number;
  /** Bytes from `start` on that are here. */
  readonly filled: number;
}
interface OwnPart extends Part {
  filled: number;
  isTaken: boolean;
}

const partBytesOf = (sizeBytes: number): number => Math.min(maxPartBytes, Math.max(minPartBytes, Math.ceil(sizeBytes / 16)));

export class Parts {
  readonly #parts: OwnPart[] = [];
  /** Parts before this one are complete. */
  #first = 0;

  constructor(sizeBytes: number) {
    const partBytes = partBytesOf(sizeBytes);
    for (let start = 0; start < sizeBytes; start += partBytes) this.#parts.push({ start, end: Math.min(sizeBytes, start + partBytes), filled: 0, isTaken: false });
  }

  /** Bytes without a gap from the beginning of the blob. */
  get prefixBytes(): number {
    for (let part = this.#parts[this.#first]; part !== undefined && part.start + part.filled === part.end; part = this.#parts[this.#first]) this.#first += 1;
    const part = this.#parts[this.#first];
    return part === undefined ? (this.#parts.at(-1)?.end ?? 0) : part.start + part.filled;
  }

  get filledBytes(): number {
    return this.#parts.reduce((sum, { filled }) => sum + filled, 0);
  }

  /** Behind the last byte that is here. */
  get endBytes(): number {
    const last = this.#parts.findLast(({ filled }) => filled > 0);
    return last === undefined ? 0 : last.start + last.filled;
  }

  get isComplete(): boolean {
    return this.prefixBytes === (this.#parts.at(-1)?.end ?? 0);
  }

  /** The first part that is not complete and that nobody fetches; it is the caller's until `release`. */
  take(): Part | undefined {
    const part = this.#parts.find(({ isTaken, start, end, filled }, index) => index >= this.#first && !isTaken && start + filled < end);
    if (part !== undefined) part.isTaken = true;
    return part;
  }

  /** The part behind a complete one, for a stream that runs on: undefined when somebody else fetches it or has begun to. */
  takeNext(part: Part): Part | undefined {
    const next = this.#parts.find(({ start }) => start === part.end);
    if (next === undefined || next.isTaken || next.filled > 0) return undefined;
    next.isTaken = true;
    return next;
  }

  release(part: Part): void {
    own(part).isTaken = false;
  }

  /** These many more bytes are here. */
  fill(part: Part, bytes: number): void {
    own(part).filled += bytes;
  }

  /** As an earlier attempt noted it. False when that was about other parts. */
  restore(filled: readonly number[]): boolean {
    if (filled.length !== this.#parts.length) return false;
    if (this.#parts.some(({ start, end }, index) => !(Number.isSafeInteger(filled[index]) && (filled[index] ?? -1) >= 0 && (filled[index] ?? 0) <= end - start))) return false;
    for (const [index, part] of this.#parts.entries()) part.filled = filled[index] ?? 0;
    return true;
  }

  /** The first `bytes` of the blob are here, and nothing else. */
  restorePrefix(bytes: number): void {
    for (const part of this.#parts) part.filled = Math.max(0, Math.min(part.end, bytes) - part.start);
    this.#first = 0;
  }

  /** For `restore`. */
  toFilled(): number[] {
    return this.#parts.map(({ filled }) => filled);
  }
}

/** Parts come from `Parts` only; outside they are read-only. */
const own = (part: Part): OwnPart => part as OwnPart;
