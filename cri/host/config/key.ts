/**
 * Configuration as a table of keys: a key is one line that says how it is read, its default and what it is for. Reading, checking, the
 * default file and what can change without a restart all follow from the table; its TypeScript type does too. Pure.
 */

/** Where in the configuration: `['cri', 'runtimes', 0, 'path']`. */
export type Place = readonly (string | number)[];
export interface Problem {
  readonly place: Place;
  readonly message: string;
}
export type Report = (problem: Problem) => void;

/** Appended to the key's name in the configuration's type, so that a number tells its unit. */
type Unit = '' | 'Ms' | 'Bytes';

export interface Reader<T, U extends Unit = ''> {
  readonly unit: U;
  /** Of the mappings that it reads, or a list of them. */
  readonly keys?: Keys | undefined;
  /** Undefined: `value` was refused, and the reason reported. */
  read(value: unknown, place: Place, report: Report): T | undefined;
}

export interface Key<T = unknown, U extends Unit = Unit> {
  readonly kind: 'key';
  readonly reader: Reader<T, U>;
  /** As it would stand in the file; undefined: none. */
  readonly byDefault: unknown;
  /** The default where it depends on the machine. */
  readonly compute: (() => T) | undefined;
  /** For a key without a fixed default: what stands in the comment of the default file. */
  readonly example: unknown;
  /** One line. */
  readonly about: string;
}
export interface Section<K extends Keys = Keys> {
  readonly kind: 'section';
  readonly about: string;
  readonly keys: K;
}
export interface Keys {
  readonly [name: string]: (Key | Section) & { readonly isLive?: true };
}

type Named<Name extends string, Entry> = Entry extends Key<unknown, infer U> ? `${Name}${U}` : Name;
/** The configuration that a table describes. */
export type ConfigOf<K> = {
  readonly [Name in keyof K & string as Named<Name, K[Name]>]: K[Name] extends Section<infer Inner> ? ConfigOf<Inner> : K[Name] extends Key<infer T> ? T : never;
};
/** The dotted names of what can change while the program runs. */
export type LiveKey<K, Prefix extends string = ''> = {
  [Name in keyof K & string]: K[Name] extends { readonly isLive: true } ? `${Prefix}${Name}` : K[Name] extends Section<infer Inner> ? LiveKey<Inner, `${Prefix}${Name}.`> : never;
}[keyof K & string];

export const key = <T, U extends Unit>(reader: Reader<T, U>, byDefault: unknown, about: string): Key<T, U> =>
  ({ kind: 'key', reader, byDefault, compute: undefined, example: undefined, about });
/** A key that may be absent; `example` stands in the default file's comment. */
export const optional = <T, U extends Unit>(reader: Reader<T, U>, example: unknown, about: string): Key<T | undefined, U> =>
  ({ kind: 'key', reader, byDefault: undefined, compute: undefined, example, about });
/** A key whose default depends on the machine. */
export const computed = <T, U extends Unit>(reader: Reader<T, U>, compute: () => T, example: unknown, about: string): Key<T, U> =>
  ({ kind: 'key', reader, byDefault: undefined, compute, example, about });
export const section = <K extends Keys>(about: string, keys: K): Section<K> => ({ kind: 'section', about, keys });
/** Marks a key, or a section with everything in it, that a reload changes without a restart. */
export const live = <Entry extends Key | Section>(entry: Entry): Entry & { readonly isLive: true } => ({ ...entry, isLive: true });

export const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * `raw` read by the table: absent and null mean the default. Every problem is reported; what is returned then must not be used.
 */
export function readKeys<K extends Keys>(keys: K, raw: unknown, place: Place, report: Report): ConfigOf<K> {
  const given = raw === undefined || raw === null ? {} : raw;
  const result: Record<string, unknown> = {};
  if (!isMapping(given)) {
    report({ place, message: `must be a mapping with the keys ${Object.keys(keys).join(', ')}` });
    return result as ConfigOf<K>; // reported
  }
  for (const name of Object.keys(given)) if (!Object.hasOwn(keys, name)) report({ place: [...place, name], message: unknownKey(name, Object.keys(keys)) });
  for (const [name, entry] of Object.entries(keys)) {
    const at = [...place, name];
    const value = given[name];
    if (entry.kind === 'section') result[name] = readKeys(entry.keys, value, at, report);
    else result[`${name}${entry.reader.unit}`] = readKey(entry, value, at, report);
  }
  return result as ConfigOf<K>; // each key by its own reader
}

function readKey(entry: Key, value: unknown, place: Place, report: Report): unknown {
  if (value !== undefined && value !== null) return entry.reader.read(value, place, report);
  if (entry.compute !== undefined) return entry.compute();
  return entry.byDefault === undefined ? undefined : entry.reader.read(entry.byDefault, place, report);
}

export function unknownKey(name: string, known: readonly string[]): string {
  const near = known.filter((each) => distance(each.toLowerCase(), name.toLowerCase()) <= 2);
  if (near.length > 0) return `unknown key; did you mean ${near.join(' or ')}?`;
  return `unknown key; ${known.length > 12 ? '`nodelet config default` shows what there is' : `known are ${known.join(', ')}`}`;
}

/** How many letters have to be put in, taken out or changed (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)));
    row = next;
  }
  return row.at(-1) ?? 0;
}

export interface FoundKey {
  /** Dotted. */
  readonly name: string;
  readonly place: Place;
  readonly entry: Key;
  readonly isLive: boolean;
}

/** All keys of a table, sections opened. */
export function allKeys(keys: Keys, place: Place = [], isLive = false): FoundKey[] {
  return Object.entries(keys).flatMap(([name, entry]): FoundKey[] => {
    const at = [...place, name];
    const live = isLive || entry.isLive === true;
    return entry.kind === 'section' ? allKeys(entry.keys, at, live) : [{ name: at.join('.'), place: at, entry, isLive: live }];
  });
}

/** `before` with the values that a reload takes over from `after`. */
export function withLive<K extends Keys>(keys: K, before: ConfigOf<K>, after: ConfigOf<K>): ConfigOf<K> {
  const result: Record<string, unknown> = { ...before };
  for (const [name, entry] of Object.entries(keys)) {
    const property = entry.kind === 'key' ? `${name}${entry.reader.unit}` : name;
    const [old, fresh] = [valueAt(before, [property]), valueAt(after, [property])];
    if (entry.isLive === true) result[property] = fresh;
    else if (entry.kind === 'section') result[property] = withLive(entry.keys, old as ConfigOf<Keys>, fresh as ConfigOf<Keys>); // of this very section
  }
  return result as ConfigOf<K>; // the same keys, some values of `after`
}

/** What stands at a place of a parsed file; undefined when nothing does. */
export function valueAt(raw: unknown, place: Place): unknown {
  let value = raw;
  for (const step of place) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Readonly<Record<string | number, unknown>>)[step];
  }
  return value;
}
