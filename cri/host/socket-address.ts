/** Socket addresses as the kernel takes them (unix(7), ip(7), ipv6(7)). Pure. */
import { Fault } from './fault.ts';

const longestPathBytes = 107;

/** Of a path, or of a name in the abstract namespace as `@name`. Fault 'invalid' when it is longer than an address can be. */
export function unixAddress(path: string): Buffer {
  const isAbstract = path.startsWith('@');
  const bytes = Buffer.byteLength(path);
  if (bytes > longestPathBytes) throw new Fault('invalid', `${path}: too long for a socket, which may have ${longestPathBytes} bytes`);
  // An abstract name ends with the address, a path with a NUL.
  const address = Buffer.alloc(2 + bytes + (isAbstract ? 0 : 1));
  address.writeUInt16LE(1 /* AF_UNIX */, 0);
  address.write(isAbstract ? `\0${path.slice(1)}` : path, 2);
  return address;
}

export function loopbackAddress(family: 4 | 6, port: number): Buffer {
  const address = Buffer.alloc(family === 4 ? 16 : 28);
  address.writeUInt16LE(family === 4 ? 2 /* AF_INET */ : 10 /* AF_INET6 */, 0);
  address.writeUInt16BE(port, 2);
  if (family === 4) address.set([127, 0, 0, 1], 4);
  else address[23] = 1;
  return address;
}
