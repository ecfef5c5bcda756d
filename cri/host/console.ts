/**
 * The terminal of a process that an OCI runtime starts: the runtime makes it inside the container and sends its master over a unix socket
 * (runc docs/terminals.md, "detached"), where it waits for us in the queue.
 */
import { closeSync, rmSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { isErrno } from './errno.ts';
import { Fault } from './fault.ts';
import { accept, bind, ioctl, listen, receiveDescriptor, socket, SOCK_CLOEXEC, SOCK_NONBLOCK } from './libc.ts';
import { madePrivate } from './private-socket.ts';
import { unixAddress } from './socket-address.ts';

interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface ConsoleSocket extends Disposable {
  readonly path: string;
  /** To be called when the runtime has ended well: what it sent is there. Fault 'internal' when it sent nothing. The caller closes the master. */
  takeMaster(): number;
}

/** Listens at `path`, for one connection. Synchronous. */
export function listenForConsole(path: string): ConsoleSocket {
  const fd = socket(1 /* AF_UNIX */, 1 /* SOCK_STREAM */ | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const close = (): void => {
    closeSync(fd);
    rmSync(path, { force: true });
  };
  try {
    madePrivate(() => bind(fd, unixAddress(path)));
    listen(fd, 1);
  } catch (error) {
    close();
    throw error;
  }
  return { path, takeMaster: () => takeMaster(fd, path), [Symbol.dispose]: close };
}

function takeMaster(listening: number, path: string): number {
  let connection: number | undefined;
  try {
    connection = accept(listening);
    const master = receiveDescriptor(connection);
    if (master !== undefined) return master;
  } catch (error) {
    if (!isErrno(error, 'EAGAIN')) throw error;
  } finally {
    if (connection !== undefined) closeSync(connection);
  }
  throw new Fault('internal', `${path}: the runtime sent no terminal`);
}

/** Both directions of a terminal as a stream, which owns the descriptor. A process that closes its side ends it with the error EIO. */
export const terminalStream = (master: number): ReadStream => new ReadStream(master);

const TIOCSWINSZ = 0x5414;

/** The processes of the terminal are told by SIGWINCH. */
export function setTerminalSize(master: number, { columns, rows }: TerminalSize): void {
  const size = Buffer.alloc(8);
  size.writeUInt16LE(Math.min(rows, 0xffff), 0);
  size.writeUInt16LE(Math.min(columns, 0xffff), 2);
  ioctl(master, TIOCSWINSZ, size);
}
