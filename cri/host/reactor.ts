/**
 * Waiting for descriptors that Node cannot watch (pidfds, seqpacket sockets, memory events): one epoll set, waited on in one thread of
 * libuv's pool, however many descriptors there are.
 *
 * An eventfd in the set wakes that thread when the process exits: libuv joins its pool, and a pending wait would hang the exit for ever.
 */
import { readSync, writeSync } from 'node:fs';
import { isErrno } from './errno.ts';
import { epollControl, epollCreate, epollWait, eventfd } from './libc.ts';

const EPOLLIN = 0x1;

const eventBytes = 12;
const maxEvents = 64;
type Handler = (events: number) => void;

class Reactor {
  readonly #epoll = epollCreate();
  readonly #wake = eventfd();
  readonly #handlers = new Map<number, Handler>();
  readonly #events = Buffer.alloc(eventBytes * maxEvents);
  #waiting = false;
  #exiting = false;

  constructor() {
    epollControl(this.#epoll, 'add', this.#wake, eventFor(this.#wake, EPOLLIN));
    process.once('exit', () => {
      this.#exiting = true;
      writeSync(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
    });
  }

  watch(fd: number, handler: Handler, events: number): () => void {
    epollControl(this.#epoll, 'add', fd, eventFor(fd, events));
    this.#handlers.set(fd, handler);
    void this.#run();
    return () => {
      if (this.#handlers.get(fd) !== handler) return;
      this.#handlers.delete(fd);
      try {
        epollControl(this.#epoll, 'delete', fd, null);
      } catch (error) {
        // Somebody closed it, and the kernel forgot it then.
        if (!isErrno(error, 'EBADF') && !isErrno(error, 'ENOENT')) throw error;
      }
      // Nothing left to wait for: let an otherwise idle process end.
      if (this.#handlers.size === 0) writeSync(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
    };
  }

  async #run(): Promise<void> {
    if (this.#waiting) return;
    this.#waiting = true;
    while (this.#handlers.size > 0 && !this.#exiting) {
      let count = 0;
      try {
        count = await epollWait(this.#epoll, this.#events, maxEvents);
      } catch (error) {
        if (!isErrno(error, 'EINTR')) throw error;
      }
      const ready: [number, number][] = [];
      for (let i = 0; i < count; i++) ready.push([this.#events.readInt32LE(i * eventBytes + 4), this.#events.readUInt32LE(i * eventBytes)]);
      for (const [fd, events] of ready) {
        if (fd === this.#wake) this.#drainWake();
        else this.#handlers.get(fd)?.(events);
      }
    }
    this.#waiting = false;
  }

  #drainWake(): void {
    if (this.#exiting) return;
    readSync(this.#wake, Buffer.alloc(8));
  }
}

function eventFor(fd: number, events: number): Buffer {
  const event = Buffer.alloc(eventBytes);
  event.writeUInt32LE(events, 0);
  event.writeInt32LE(fd, 4);
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
