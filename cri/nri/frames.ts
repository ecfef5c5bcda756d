/** Cuts a byte stream into frames: a header of fixed length, which says how long the body is, and the body. Pure. */
import { Fault } from '#host/fault.ts';

export interface FrameFormat<Header> {
  readonly headerBytes: number;
  readonly maxBodyBytes: number;
  readonly parseHeader: (bytes: Buffer) => { readonly header: Header; readonly bodyBytes: number };
}

export interface Frame<Header> {
  readonly header: Header;
  readonly body: Buffer;
}

/** Holds at most one frame that is not whole yet. */
export class FrameDecoder<Header> {
  readonly #format: FrameFormat<Header>;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #pending: { readonly header: Header; readonly bodyBytes: number } | undefined;

  constructor(format: FrameFormat<Header>) {
    this.#format = format;
  }

  /** The frames that this chunk completes, in order. Fault 'invalid' for a body that is too long; the stream cannot be read on then. */
  *push(chunk: Buffer): Generator<Frame<Header>> {
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.length;
    const { headerBytes, maxBodyBytes, parseHeader } = this.#format;
    for (;;) {
      if (this.#pending === undefined) {
        if (this.#bufferedBytes < headerBytes) return;
        const parsed = parseHeader(this.#take(headerBytes));
        if (parsed.bodyBytes > maxBodyBytes) throw new Fault('invalid', `a message of ${parsed.bodyBytes} bytes; at most ${maxBodyBytes} are allowed`);
        this.#pending = parsed;
      }
      if (this.#bufferedBytes < this.#pending.bodyBytes) return;
      const { header, bodyBytes } = this.#pending;
      this.#pending = undefined;
      yield { header, body: this.#take(bodyBytes) };
    }
  }

  #take(bytes: number): Buffer {
    const [first] = this.#chunks;
    const whole = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#chunks = whole.length > bytes ? [whole.subarray(bytes)] : [];
    this.#bufferedBytes = whole.length - bytes;
    return whole.subarray(0, bytes);
  }
}
