/** Addresses and networks, by ip-cidr: is it one, of which family, where does it begin. */
import IPCIDR from 'ip-cidr';

export type Family = 4 | 6;

const oneLine = /^[0-9A-Fa-f:.]+$/;

/** A bare address; a zone (`%eth0`), a port or a prefix is none. */
export const isAddress = (text: string): boolean => oneLine.test(text) && IPCIDR.isValidAddress(text);

/** ADDRESS/LENGTH. Host bits may be set: `10.1.0.7/24` is an address and its network. */
export function isCidr(text: string): boolean {
  // ip-cidr takes a second slash and an empty length, so the shape is checked first.
  const [address, length, ...rest] = text.split('/');
  return address !== undefined && length !== undefined && rest.length === 0 && /^\d{1,3}$/.test(length) && oneLine.test(address) && IPCIDR.isValidCIDR(text);
}

/** Of an address or a CIDR that was checked. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is IPv4, as for Go. */
export const familyOf = (text: string): Family => (text.includes(':') && !/^::ffff:\d+\.\d+\.\d+\.\d+(\/\d+)?$/i.test(text) ? 6 : 4);

export interface Subnet {
  readonly family: Family;
  /** Canonical, host bits cleared: `10.1.0.0/24`, `fd00:10::/64`. */
  readonly cidr: string;
  readonly prefixLength: number;
  /** How many addresses it has. */
  readonly size: bigint;
}

/** Throws RangeError saying what is wrong. */
export function parseSubnet(text: string): Subnet {
  if (!isCidr(text)) throw new RangeError(`${JSON.stringify(text)} is not a CIDR (like 10.88.0.0/16 or fd00:10:88::/64)`);
  const parsed = new IPCIDR(text);
  const prefixLength = Number(text.split('/')[1]);
  const start = parsed.start<string>();
  return { family: familyOf(text), cidr: `${canonical(start)}/${prefixLength}`, prefixLength, size: BigInt(parsed.size as bigint) };
}

/** True when the address lies in the network. */
export const contains = (cidr: string, address: string): boolean => new IPCIDR(cidr).contains(address);

/** Two CIDRs are either apart or one inside the other: compare the wider one with the other's first address. */
export function overlap(a: Subnet, b: Subnet): boolean {
  if (a.family !== b.family) return false;
  const [wide, narrow] = a.prefixLength <= b.prefixLength ? [a, b] : [b, a];
  return contains(wide.cidr, addressOf(narrow.cidr));
}

/** The address of a CIDR, without the length. */
const addressOf = (cidr: string): string => cidr.split('/')[0] ?? cidr;

/** The `n`th address of the network (0 is the network itself). Throws RangeError past its end. */
export function addressAt(cidr: string, n: bigint): string {
  const subnet = parseSubnet(cidr);
  if (n < 0n || n >= subnet.size) throw new RangeError(`${cidr} has no address number ${n}`);
  const [address = ''] = new IPCIDR(subnet.cidr).toArray({ from: n, limit: 1n });
  return canonical(address);
}

/** The short form of RFC 5952; ip-cidr prints all 32 digits. IPv4 unchanged. */
export function canonical(address: string): string {
  if (!address.includes(':')) return address;
  const parsed = IPCIDR.createAddress(address);
  return 'correctForm' in parsed ? parsed.correctForm() : address;
}
