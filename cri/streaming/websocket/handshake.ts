/** The opening handshake of RFC 6455, server side. Pure. */
import { createHash } from 'node:crypto';

/** RFC 6455, section 1.3. */
const magic = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const acceptKey = (key: string): string => createHash('sha1').update(key + magic).digest('base64');

/** The key is 16 random bytes in base64; version 13 is the only one there is. */
export const isHandshake = (method: string | undefined, headers: Readonly<Record<string, string | string[] | undefined>>): boolean =>
  method === 'GET' && headers['sec-websocket-version'] === '13' && /^[A-Za-z0-9+/]{22}==$/.test(String(headers['sec-websocket-key'] ?? ''));

/** The headers that accept it; `protocol` is one that the client offered, '' for none. */
export const acceptance = (key: string, protocol: string): Record<string, string> => ({
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Accept': acceptKey(key),
  ...(protocol === '' ? {} : { 'Sec-WebSocket-Protocol': protocol }),
});
