/** What a process writes, on its way to somebody who may be slow: its pipe is read no faster than that, and little more than one chunk is kept here. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { Writable } from 'node:stream';
import type { Ctx } from '#host/ctx.ts';
import { hasInput, pipe } from '#host/libc.ts';

/** More than any pipe or terminal holds: what comes after it was written by somebody who outlived the process. */
const longestRestBytes = 2 * 1024 * 1024;

export class Output {
  readonly #source: Socket;
  readonly #fd: number;
  #sink: Writable | undefined;
  #wake: (() => void) | undefined;
  #restBytes = 0;
  readonly #stop = (): void => void this.#source.destroy();

  /** `source` owns the descriptor `fd`. */
  constructor(source: Socket, fd: number) {
    this.#source = source;
    this.#fd = fd;
    source.on('close', () => this.#wake?.());
    // A terminal ends with EIO.
    source.on('error', this.#stop);
  }

  /** Begins to read; without a sink what comes is dropped. The sink is not ended; when it closes, the process sees a closed pipe. */
  flowTo(sink: Writable | undefined): void {
    if (sink !== undefined) {
      this.#sink = sink;
      if (sink.destroyed) return this.#stop();
      sink.once('close', this.#stop);
      // Its owner learns of it too.
      sink.once('error', this.#stop);
      this.#source.pipe(sink, { end: false });
    }
    this.#source.on('data', (chunk: Buffer) => {
      this.#restBytes += chunk.length;
      this.#wake?.();
    });
  }

  /**
   * For a process that has ended: resolves when the sink has all that it wrote. Whoever still holds the pipe is not waited for; a slow sink is,
   * until `ctx` ends.
   */
  async rest(ctx: Pick<Ctx, 'signal'>): Promise<void> {
    this.#restBytes = 0;
    const wake = (): void => this.#wake?.();
    ctx.signal.addEventListener('abort', wake, { once: true });
    while (!ctx.signal.aborted && !this.#source.destroyed && this.#restBytes < longestRestBytes && (this.#source.readableLength > 0 || hasInput(this.#fd))) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    ctx.signal.removeEventListener('abort', wake);
    this.stop();
  }

  /** May be called twice. */
  stop(): void {
    this.#sink?.off('close', this.#stop).off('error', this.#stop);
    this.#source.unpipe();
    this.#source.destroy();
  }
}

/**
 * A pipe for a child to write to. The caller closes `writeFd` when the child has its copy. `aheadBytes` are read before anybody takes them: for a
 * writer whose end is awaited first.
 */
export function outputPipe({ aheadBytes = 0 } = {}): { output: Output; writeFd: number } {
  const { readFd, writeFd } = pipe();
  try {
    const source = new Socket({ fd: readFd, readable: true, writable: false, ...(aheadBytes > 0 ? { highWaterMark: aheadBytes } : {}) });
    if (aheadBytes > 0) source.read(0);
    return { output: new Output(source, readFd), writeFd };
  } catch (error) {
    closeSync(readFd);
    closeSync(writeFd);
    throw error;
  }
}

/** Keeps what is written up to a budget that several may share, and drops the rest. */
export class Collector extends Writable {
  readonly #chunks: Buffer[] = [];
  readonly #budget: { bytesLeft: number };

  constructor(budget: { bytesLeft: number }) {
    super();
    this.#budget = budget;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const kept = chunk.subarray(0, this.#budget.bytesLeft);
    this.#budget.bytesLeft -= kept.length;
    if (kept.length > 0) this.#chunks.push(kept);
    done();
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}
