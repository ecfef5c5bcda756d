/** JSON for records: readable with `cat`, and keeps CRI's 64-bit integers and bytes. Pure. */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function replace(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return { $int64: value.toString() };
  // A Buffer has turned itself into an object before `value` is handed over: look at the original.
  const original = (this as Record<string, unknown>)[key];
  if (original instanceof Uint8Array) return { $bytes: Buffer.from(original).toString('base64') };
  return value;
}

function revive(_key: string, value: Json): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const keys = Object.keys(value);
  if (keys.length !== 1) return value;
  if (typeof value['$int64'] === 'string') return BigInt(value['$int64']);
  if (typeof value['$bytes'] === 'string') return new Uint8Array(Buffer.from(value['$bytes'], 'base64'));
  return value;
}

/** For people: the same values as plain numbers and text, which cannot be read back. */
export const stringifyInfo = (value: unknown): string => JSON.stringify(value, plain);

function plain(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  const original = (this as Record<string, unknown>)[key];
  return original instanceof Uint8Array ? Buffer.from(original).toString('utf8') : value;
}

export const stringifyRecord = (value: unknown): string => `${JSON.stringify(value, replace, 1)}\n`;

/** Throws SyntaxError on text that is not JSON, RangeError and the like on damaged numbers. */
export const parseRecord = (text: string): unknown => JSON.parse(text, revive);

type Kind = 'string' | 'number' | 'bigint' | 'object' | 'list';
const kindOf = (value: unknown): string => (Array.isArray(value) ? 'list' : value === null ? 'null' : typeof value);

/** True when `value` is an object that has these fields, of these kinds. Others may be there, too. */
export const hasShape = (value: unknown, shape: Readonly<Record<string, Kind>>): value is Record<string, unknown> =>
  kindOf(value) === 'object' && Object.entries(shape).every(([key, kind]) => kindOf((value as Record<string, unknown>)[key]) === kind);
