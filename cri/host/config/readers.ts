/** Readers of configuration values: each says what it allows, and refuses everything else in words that name it. Pure. */
import { isMapping, type Key, type Keys, type ConfigOf, type Place, readKeys, type Reader, type Report } from './key.ts';

const refuse = (report: Report, place: Place, allowed: string, value: unknown): undefined => {
  report({ place, message: `must be ${allowed}, not ${JSON.stringify(value)}` });
};

/** A reader of one value; `parse` returns undefined for what is not allowed. */
export const readerOf = <T>(allowed: string, parse: (value: unknown) => T | undefined): Reader<T> => ({
  unit: '',
  read: (value, place, report) => parse(value) ?? refuse(report, place, allowed, value),
});

export const text = readerOf('a text', (value) => (typeof value === 'string' && value !== '' ? value : undefined));
export const flag = readerOf('true or false', (value) => (typeof value === 'boolean' ? value : undefined));
export const absolutePath = readerOf('an absolute path', (value) => (typeof value === 'string' && value.startsWith('/') && !value.includes('\0') ? value : undefined));
export const integer = (least: number, most: number): Reader<number> =>
  readerOf(`a whole number from ${least} to ${most}`, (value) => (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most ? value : undefined));
export const oneOf = <const Word extends string>(...words: readonly Word[]): Reader<Word> =>
  readerOf(words.length === 2 ? words.join(' or ') : `one of ${words.join(', ')}`, (value) => words.find((word) => word === value));

const msOf: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's duration syntax (`1h30m`, `1.5s`, `0`) in milliseconds; undefined when it is none. */
export function durationMs(value: unknown): number | undefined {
  if (value === '0' || value === 0) return 0;
  if (typeof value !== 'string' || !/^((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(value)) return undefined;
  let total = 0;
  for (const [, number, unit] of value.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)) total += Number(number) * (msOf[unit ?? ''] ?? 0);
  return total;
}
export const duration: Reader<number, 'Ms'> = {
  unit: 'Ms',
  read: (value, place, report) => durationMs(value) ?? refuse(report, place, 'a duration like 10s, 1m30s or 500ms', value),
};

const bytesOf: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3, Ti: 1024 ** 4 };

/** Kubernetes' way to write bytes: `10Mi`, `1G`, `4096`. */
export function sizeBytes(value: unknown): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)$/.exec(typeof value === 'number' ? String(value) : typeof value === 'string' ? value : '');
  if (match === null) return undefined;
  const bytes = Math.ceil(Number(match[1]) * (bytesOf[match[2] ?? ''] ?? 1));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
export const size: Reader<number, 'Bytes'> = {
  unit: 'Bytes',
  read: (value, place, report) => {
    const bytes = sizeBytes(value);
    return bytes === undefined || bytes === 0 ? refuse(report, place, 'a size like 10Mi or 500M', value) : bytes;
  },
};

export const listOf = <T>(item: Reader<T>, what = 'a list'): Reader<readonly T[]> => ({
  unit: '',
  keys: item.keys,
  read: (value, place, report) => {
    if (!Array.isArray(value)) return refuse(report, place, what, value);
    const items = value.map((each: unknown, index) => item.read(each, [...place, index], report));
    return items.every((each) => each !== undefined) ? items : undefined;
  },
});

/** A mapping of names that the user chooses. */
export const mapOf = <T>(item: Reader<T>, what = 'a mapping'): Reader<Readonly<Record<string, T>>> => ({
  unit: '',
  read: (value, place, report) => {
    if (!isMapping(value)) return refuse(report, place, what, value);
    const entries = Object.entries(value).map(([name, each]): [string, T | undefined] => [name, item.read(each, [...place, name], report)]);
    return entries.every((entry): entry is [string, T] => entry[1] !== undefined) ? Object.fromEntries(entries) : undefined;
  },
});
/** Texts, and numbers taken as text: `zone: 1`. */
export const textMap = mapOf(readerOf('a text', (value) => (typeof value === 'string' ? value : typeof value === 'number' ? String(value) : undefined)), 'a mapping of texts');

/** A mapping with its own table of keys, for lists of them. A key without a default has to be there, unless it was made with `optional`. */
export const record = <K extends Keys>(keys: K): Reader<ConfigOf<K>> => ({
  unit: '',
  keys,
  read: (value, place, report) => {
    if (!isMapping(value)) return refuse(report, place, `a mapping with the keys ${Object.keys(keys).join(', ')}`, value);
    let refused = false;
    const own: Report = (problem) => {
      refused = true;
      report(problem);
    };
    const found = readKeys(keys, value, place, own);
    for (const [name, entry] of Object.entries(keys)) {
      if (isRequired(entry) && (value[name] ?? undefined) === undefined) own({ place: [...place, name], message: 'is missing' });
    }
    return refused ? undefined : found;
  },
});

/** A key of a `record` that has to be given. */
export const required = <T>(reader: Reader<T>, about: string): Key<T, ''> & { readonly isRequired: true } =>
  ({ kind: 'key', reader, byDefault: undefined, compute: undefined, example: undefined, about, isRequired: true });
const isRequired = (entry: object): boolean => 'isRequired' in entry;
