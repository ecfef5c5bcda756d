/** TCP connections to a loopback address as it is inside a network namespace: the socket is made in there, everything else happens outside. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Ctx } from './ctx.ts';
import { isErrno, SyscallError } from './errno.ts';
import { unlessGivenUp } from './give-up.ts';
import { connectSync, socket, SOCK_CLOEXEC, SOCK_NONBLOCK, socketError } from './libc.ts';
import { inNetworkNamespace } from './namespaces.ts';
import { watchFd } from './reactor.ts';
import { loopbackAddress } from './socket-address.ts';

const EPOLLOUT = 0x4;

export interface LoopbackTarget {
  readonly family: 4 | 6;
  readonly port: number;
  /** Undefined: our own. */
  readonly namespacePath: string | undefined;
}

/** The connection, half-open allowed. Throws SyscallError (ECONNREFUSED, …), Fault timeout or canceled when given up. */
export async function connectLoopback(ctx: Ctx, target: LoopbackTarget): Promise<Socket> {
  ctx.signal.throwIfAborted();
  const open = (): number => socket(target.family === 4 ? 2 /* AF_INET */ : 10 /* AF_INET6 */, 1 /* SOCK_STREAM */ | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const fd = target.namespacePath === undefined ? open() : inNetworkNamespace(target.namespacePath, open);
  try {
    await connected(ctx, fd, target);
    return new Socket({ fd, allowHalfOpen: true });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

async function connected(ctx: Ctx, fd: number, target: LoopbackTarget): Promise<void> {
  try {
    connectSync(fd, loopbackAddress(target.family, target.port));
    return;
  } catch (error) {
    if (!isErrno(error, 'EINPROGRESS')) throw error;
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  const unwatch = watchFd(fd, () => resolve(), EPOLLOUT);
  try {
    await unlessGivenUp(ctx, promise, `connect to port ${target.port}`);
  } finally {
    unwatch();
  }
  const errno = socketError(fd);
  if (errno !== 0) throw new SyscallError('connect', errno);
}
