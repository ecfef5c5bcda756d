/** Errors of the kernel with the call, the path and the symbolic code, in the shape of Node's own. */
import { constants } from 'node:os';
import { Fault } from './fault.ts';

/** Of two names for one number, the one that everybody uses. */
const isAlias = (name: string): boolean => name === 'EWOULDBLOCK';
const nameOf = new Map<number, string>(Object.entries(constants.errno).filter(([name]) => !isAlias(name)).map(([name, number]) => [number, name]));

export class SyscallError extends Fault {
  readonly syscall: string;
  readonly errno: number;
  /** `ENOENT` and the like; `E123` for a number this Node does not know. */
  readonly code: string;
  readonly path: string | undefined;
  constructor(syscall: string, errno: number, path?: string) {
    const code = nameOf.get(errno) ?? `E${errno}`;
    super('internal', `${syscall}${path === undefined ? '' : ` ${path}`}: ${code}`);
    this.name = 'SyscallError';
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
    this.path = path;
  }
}

/** True for a SyscallError or an error of Node's own fs with one of these codes. */
export const isErrno = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code);
