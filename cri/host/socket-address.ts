/** Socket addresses as the kernel takes them (unix(7)). Pure. */
import { Fault } from './fault.ts';

const longestPathBytes = 107;

/** Fault 'invalid' when the path is longer than an address can be. */
export function unixAddress(path: string): Buffer {
  if (Buffer.byteLength(path) > longestPathBytes) throw new Fault('invalid', `${path}: too long for a socket, which may have ${longestPathBytes} bytes`);
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  address.writeUInt16LE(1 /* AF_UNIX */, 0);
  address.write(path, 2);
  return address;
}
