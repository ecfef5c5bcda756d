/**
 * Waiting for descriptors that Node cannot watch (pidfds, seqpacket sockets, memory events): one epoll set, waited on in one thread of
 * libuv's pool, however many descriptors there are.
 *
 * An eventfd in the set wakes that thread when the process exits: libuv joins its pool, and a pending wait would hang the exit for ever.
 *
 * Between the thread's answer and the main thread a descriptor may be closed, and its number be another's who must not hear of it: an event carries
 * the number of its watch too.
 */
import { readSync, writeSync } from 'node:fs';
import { isErrno } from './errno.ts';
import { epollControl, epollCreate, epollWait, eventfd } from './libc.ts';

const EPOLLIN = 0x1;

/** struct epoll_event: packed on x86_64 only. */
const [eventBytes, dataAt] = process.arch === 'x64' ? [12, 4] : [16, 8];
const maxEvents = 64;
type Handler = (events: number) => void;

interface Watch {
  /** Of 32 bits. */
  readonly number: number;
  readonly handler: Handler;
}

class Reactor {
  readonly #epoll = epollCreate();
  readonly #wake = eventfd();
  /** By descriptor. */
  readonly #watches = new Map<number, Watch>();
  #lastNumber = 0;
  readonly #events = Buffer.alloc(eventBytes * maxEvents);
  #waiting = false;
  #exiting = false;

  constructor() {
    epollControl(this.#epoll, 'add', this.#wake, eventFor(this.#wake, 0, EPOLLIN));
    process.once('exit', () => {
      this.#exiting = true;
      writeSync(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
    });
  }

  watch(fd: number, handler: Handler, events: number): () => void {
    this.#lastNumber = (this.#lastNumber + 1) >>> 0;
    const own: Watch = { number: this.#lastNumber, handler };
    epollControl(this.#epoll, 'add', fd, eventFor(fd, own.number, events));
    this.#watches.set(fd, own);
    void this.#run();
    return () => {
      if (this.#watches.get(fd) !== own) return;
      this.#watches.delete(fd);
      try {
        epollControl(this.#epoll, 'delete', fd, null);
      } catch (error) {
        // Somebody closed it, and the kernel forgot it then.
        if (!isErrno(error, 'EBADF') && !isErrno(error, 'ENOENT')) throw error;
      }
      // Nothing left to wait for: let an otherwise idle process end.
      if (this.#watches.size === 0) writeSync(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
    };
  }

  async #run(): Promise<void> {
    if (this.#waiting) return;
    this.#waiting = true;
    while (this.#watches.size > 0 && !this.#exiting) {
      let count = 0;
      try {
        count = await epollWait(this.#epoll, this.#events, maxEvents);
      } catch (error) {
        if (!isErrno(error, 'EINTR')) throw error;
      }
      for (const { fd, number, events } of this.#ready(count)) {
        if (fd === this.#wake) this.#drainWake();
        else if (this.#watches.get(fd)?.number === number) this.#watches.get(fd)?.handler(events);
      }
    }
    this.#waiting = false;
  }

  #ready(count: number): { fd: number; number: number; events: number }[] {
    return Array.from({ length: count }, (_, i) => {
      const at = i * eventBytes;
      return { events: this.#events.readUInt32LE(at), fd: this.#events.readInt32LE(at + dataAt), number: this.#events.readUInt32LE(at + dataAt + 4) };
    });
  }

  #drainWake(): void {
    if (this.#exiting) return;
    readSync(this.#wake, Buffer.alloc(8));
  }
}

function eventFor(fd: number, number: number, events: number): Buffer {
  const event = Buffer.alloc(eventBytes);
  event.writeUInt32LE(events, 0);
  event.writeInt32LE(fd, dataAt);
  event.writeUInt32LE(number, dataAt + 4);
  return event;
}

let reactor: Reactor | undefined;

/** The other side has closed a connection, also while what it sent lies unread; EPOLLHUP and EPOLLERR are told in any case. */
export const EPOLLRDHUP = 0x2000;

/**
 * Calls `onReady` on the main thread whenever `fd` has one of `events` (level-triggered: consume what made it ready, or unwatch).
 * Returns the function that stops watching; call it before closing the descriptor, or soon after when somebody else closes it. May be called twice.
 */
export function watchFd(fd: number, onReady: Handler, events: number = EPOLLIN): () => void {
  reactor ??= new Reactor();
  return reactor.watch(fd, onReady, events);
}
