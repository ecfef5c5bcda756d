/**
 * A unix socket of type SOCK_SEQPACKET as a stream, which Node has no handle for: koffi for the calls, the reactor for readiness.
 * Each chunk read is one packet; each chunk written becomes packets of at most `longestPacketBytes`. Reads only what somebody takes. The end of the
 * writing side is a shutdown; when the peer has gone, what is written is dropped and what it left can still be read.
 */
import { closeSync, openSync } from 'node:fs';
import { dirname, basename } from 'node:path';
import { Duplex } from 'node:stream';
import { isErrno } from './errno.ts';
import { connectSync, recv, send, shutdown, socket, SOCK_CLOEXEC, SOCK_NONBLOCK } from './libc.ts';
import { watchFd } from './reactor.ts';
import { unixAddress } from './socket-address.ts';

const EPOLLIN = 0x1;
const EPOLLOUT = 0x4;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;

export interface PacketLimits {
  /** A longer packet is cut. */
  readonly longestReadBytes: number;
  readonly longestPacketBytes: number;
}

/** Throws SyscallError: ENOENT or ECONNREFUSED when nobody listens at `path`, EAGAIN when its queue is full. */
export function connectSeqpacket(path: string, limits: PacketLimits): SeqpacketStream {
  const fd = socket(1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  try {
    // By its directory: the path itself may be longer than an address.
    const directory = openSync(dirname(path), 'r');
    try {
      connectSync(fd, unixAddress(`/proc/self/fd/${directory}/${basename(path)}`));
    } finally {
      closeSync(directory);
    }
    return new SeqpacketStream(fd, limits);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

export class SeqpacketStream extends Duplex {
  readonly #fd: number;
  readonly #limits: PacketLimits;
  readonly #buffer: Buffer;
  #wantsRead = false;
  #blockedWrite: (() => void) | undefined;
  #watched = 0;
  #unwatch: (() => void) | undefined;

  constructor(fd: number, limits: PacketLimits) {
    super({ readableObjectMode: true, readableHighWaterMark: 8, writableHighWaterMark: limits.longestPacketBytes });
    this.#fd = fd;
    this.#limits = limits;
    this.#buffer = Buffer.alloc(limits.longestReadBytes);
  }

  override _read(): void {
    this.#wantsRead = true;
    this.#watch();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#sendFrom(chunk, 0, done);
  }

  override _final(done: (error?: Error) => void): void {
    try {
      shutdown(this.#fd, SHUT_WR);
      done();
    } catch (error) {
      // The peer has gone.
      done(isErrno(error, 'ENOTCONN', 'EPIPE') ? undefined : (error as Error));
    }
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#unwatch?.();
    closeSync(this.#fd);
    done(error);
  }

  #watch(): void {
    const events = (this.#wantsRead ? EPOLLIN : 0) | (this.#blockedWrite === undefined ? 0 : EPOLLOUT);
    if (events === this.#watched || this.destroyed) return;
    this.#unwatch?.();
    this.#watched = events;
    this.#unwatch = events === 0 ? undefined : watchFd(this.#fd, () => this.#ready(), events);
  }

  #ready(): void {
    const write = this.#blockedWrite;
    this.#blockedWrite = undefined;
    write?.();
    if (this.#wantsRead && !this.destroyed) this.#receive();
    this.#watch();
  }

  #receive(): void {
    while (this.#wantsRead) {
      let bytes: number;
      try {
        bytes = recv(this.#fd, this.#buffer, 0);
      } catch (error) {
        if (isErrno(error, 'EAGAIN')) return;
        // Said once, when the peer closed without having read all of ours; what it sent before is still there.
        if (isErrno(error, 'ECONNRESET')) continue;
        this.destroy(error as Error);
        return;
      }
      if (bytes === 0) {
        this.#wantsRead = false;
        this.push(null);
      } else if (!this.push(Buffer.from(this.#buffer.subarray(0, bytes)))) this.#wantsRead = false;
    }
  }

  #sendFrom(chunk: Buffer, from: number, done: (error?: Error) => void): void {
    let offset = from;
    try {
      while (offset < chunk.length) offset += send(this.#fd, chunk.subarray(offset, offset + this.#limits.longestPacketBytes), MSG_NOSIGNAL);
      done();
    } catch (error) {
      // The peer has gone: that is told by reading, after what it left there.
      if (isErrno(error, 'EPIPE', 'ECONNRESET')) return done();
      if (!isErrno(error, 'EAGAIN')) return done(error as Error);
      this.#blockedWrite = () => this.#sendFrom(chunk, offset, done);
      this.#watch();
    }
  }
}
