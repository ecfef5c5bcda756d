/** What a stream is connected to: the three things that cri/container and cri/sandbox do for the streaming server. */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Ctx } from '#host/ctx.ts';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** What the client asked for is there, the rest is undefined. */
export interface ProcessIo {
  /** Ends when the client half-closes it. */
  readonly stdin: Readable | undefined;
  /** write() returns false, and 'drain' follows, when the client is slow. */
  readonly stdout: Writable | undefined;
  /** Never with a terminal. */
  readonly stderr: Writable | undefined;
  /** Ends with the session; without a terminal it has nothing. Only the newest size is kept for a slow reader. */
  readonly resizes: AsyncIterable<TerminalSize>;
}

/** `ctx.signal` is aborted when the client is gone, was idle for too long, or the server stops. The streams are the server's to end. */
export interface StreamingTargets {
  /** Resolves with the exit code once all output was written to `io`. A Fault becomes the error that the client shows. */
  exec(ctx: Ctx, request: { readonly containerId: string; readonly command: readonly string[]; readonly tty: boolean }, io: ProcessIo): Promise<number>;
  /** Until the container ends or the client goes away. */
  attach(ctx: Ctx, request: { readonly containerId: string; readonly tty: boolean }, io: ProcessIo): Promise<void>;
  /** One TCP connection in the network namespace of the sandbox, until both directions have ended. */
  portForward(ctx: Ctx, request: { readonly sandboxId: string; readonly port: number }, connection: Duplex): Promise<void>;
}
