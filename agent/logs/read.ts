/** Reads a container's log file: all of it, its end, or on and on while the container runs, across rotations. */
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { fixedTimestamp, parseLogLine, timestampNs } from './line.ts';
import { tailStart } from './tail.ts';

export interface LogOptions {
  /** Goes on until `isRunning` says no and everything is read. */
  readonly follow?: boolean;
  readonly tailLines?: number;
  /** Only what was written at or after this moment. */
  readonly sinceNs?: bigint;
  readonly timestamps?: boolean;
  /** Ends in the middle of a line if need be. */
  readonly limitBytes?: number;
  readonly stream?: 'stdout' | 'stderr';
}

const chunkBytes = 64 * 1024;
/** What the kubelet waits at most before it looks again, should a change go unnoticed. */
const lookAgainMs = 1_000;

/**
 * The text of the log in pieces; partial lines are joined. Each piece is a Buffer of its own. Throws Fault('not-found') without the file.
 * Ends when the context does.
 */
export async function* readLog(ctx: Ctx, path: string, options: LogOptions, isRunning: () => Promise<boolean> = () => Promise.resolve(false)): AsyncGenerator<Buffer> {
  const source = await LogFile.open(path, options);
  try {
    const render = new Renderer(options);
    const changes = options.follow === true ? await Changes.start(path) : undefined;
    try {
      let lastLookMs = 0;
      for (let hasEnded = false; ; ) {
        let hasNews = false;
        for await (const lines of source.lines()) {
          hasNews = true;
          const piece = render.piece(lines);
          if (piece.length > 0) yield piece;
          if (render.isDone || ctx.signal.aborted) return;
        }
        if (changes === undefined || ctx.signal.aborted) return;
        if (await source.reopenIfRotated(path)) continue;
        if (hasEnded && !hasNews) return;
        if (!hasNews || performance.now() - lastLookMs >= lookAgainMs) {
          lastLookMs = performance.now();
          hasEnded = !(await isRunning());
          if (hasEnded) continue; // once more: what was written just before the end
        }
        await changes.wait(ctx, lookAgainMs);
      }
    } finally {
      changes?.stop();
    }
  } finally {
    await source.close();
  }
}

/** The end of a log as text, for termination messages: at most `lines` lines, of them the last `bytes` bytes. Empty without the file. */
export async function readLogTail(ctx: Ctx, path: string, limits: { lines: number; bytes: number }): Promise<string> {
  let kept = Buffer.alloc(0);
  try {
    for await (const piece of readLog(ctx, path, { tailLines: limits.lines })) {
      const all = Buffer.concat([kept, piece]);
      kept = all.subarray(Math.max(0, all.length - limits.bytes));
    }
  } catch (error) {
    if (!(error instanceof Fault && error.kind === 'not-found')) throw error;
  }
  return kept.toString('utf8');
}

/** The open file and how far it has been read. */
class LogFile {
  #file: FileHandle;
  #position: number;
  #rest: Buffer = Buffer.alloc(0);

  static async open(path: string, { tailLines }: LogOptions): Promise<LogFile> {
    let file: FileHandle;
    try {
      file = await open(path, 'r');
    } catch (cause) {
      throw isErrno(cause, 'ENOENT', 'ENOTDIR') ? new Fault('not-found', `failed to open log file ${JSON.stringify(path)}: no such file or directory`, cause) : cause;
    }
    try {
      return new LogFile(file, tailLines === undefined ? 0 : await tailStart(file, tailLines));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.#position = position;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Whole lines from where we are to the end of the file, a chunk at a time; a line without its end waits for the next call. */
  async *lines(): AsyncGenerator<Buffer[]> {
    for (;;) {
      const chunk = Buffer.allocUnsafe(chunkBytes);
      const { bytesRead } = await this.#file.read(chunk, 0, chunkBytes, this.#position);
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      const text = this.#rest.length === 0 ? chunk.subarray(0, bytesRead) : Buffer.concat([this.#rest, chunk.subarray(0, bytesRead)]);
      const found: Buffer[] = [];
      let start = 0;
      for (let end = text.indexOf(0x0a); end >= 0; end = text.indexOf(0x0a, start)) {
        found.push(text.subarray(start, end));
        start = end + 1;
      }
      this.#rest = text.subarray(start);
      if (found.length > 0) yield found;
    }
  }

  /** True when another file has taken the path: reading goes on at its beginning. Call it at the end of the present one. */
  async reopenIfRotated(path: string): Promise<boolean> {
    let next: FileHandle;
    try {
      const [at, ours] = await Promise.all([stat(path), this.#file.stat()]);
      if (at.ino === ours.ino && at.dev === ours.dev) {
        if (ours.size < this.#position) this.#position = 0; // truncated in place
        return false;
      }
      if (ours.size > this.#position) return true; // written between our last look and the rotation: first the rest of it
      next = await open(path, 'r');
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false; // renamed, the new one is not there yet
      throw error;
    }
    await this.#file.close();
    this.#file = next;
    this.#position = 0;
    this.#rest = Buffer.alloc(0);
    return true;
  }
}

/** Lines of the file → what the reader gets to see. */
class Renderer {
  readonly #options: LogOptions;
  #atLineStart = true;
  #left: number;

  constructor(options: LogOptions) {
    this.#options = options;
    this.#left = options.limitBytes ?? Infinity;
  }

  get isDone(): boolean {
    return this.#left <= 0;
  }

  piece(lines: readonly Buffer[]): Buffer {
    const parts: Buffer[] = [];
    for (const line of lines) this.#add(parts, line);
    const all = Buffer.concat(parts);
    const cut = all.length > this.#left ? all.subarray(0, this.#left) : all;
    this.#left -= cut.length;
    return cut;
  }

  #add(parts: Buffer[], line: Buffer): void {
    const parsed = parseLogLine(line);
    const { stream, sinceNs, timestamps } = this.#options;
    if (parsed === undefined || (stream !== undefined && parsed.stream !== stream)) return;
    if (sinceNs !== undefined && (timestampNs(parsed.timestamp) ?? sinceNs) < sinceNs) return;
    if (timestamps === true && this.#atLineStart) parts.push(Buffer.from(`${fixedTimestamp(parsed.timestamp)} `));
    parts.push(parsed.text);
    if (parsed.isFull) parts.push(newline);
    this.#atLineStart = parsed.isFull;
  }
}

const newline = Buffer.from('\n');

/** Tells that something happened in the log's directory: writes to the file, and the rename and creation of a rotation. */
class Changes {
  readonly #watcher: FSWatcher | undefined;
  #hasNews = false;
  #wake = (): void => undefined;

  static async start(path: string): Promise<Changes> {
    return new Changes(dirname(await realpath(path).catch(() => path)));
  }

  private constructor(directory: string) {
    const changed = (): void => {
      this.#hasNews = true;
      this.#wake();
    };
    try {
      this.#watcher = watch(directory, { persistent: false }, changed);
      this.#watcher.on('error', changed);
    } catch {
      this.#watcher = undefined; // no inotify watches left: the look each second remains
    }
  }

  async wait(ctx: Ctx, atMostMs: number): Promise<void> {
    if (!this.#hasNews && !ctx.signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = (): void => resolve();
      const timer = setTimeout(wake, atMostMs);
      this.#wake = wake;
      ctx.signal.addEventListener('abort', wake, { once: true });
      await promise;
      clearTimeout(timer);
      ctx.signal.removeEventListener('abort', wake);
    }
    this.#hasNews = false;
  }

  stop(): void {
    this.#watcher?.close();
  }
}
