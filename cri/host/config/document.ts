/** A configuration written out as commented YAML: the default file, and the effective configuration with where each value comes from. Pure. */
import { type Key, type Keys, type Place } from './key.ts';

export interface Line {
  /** Undefined: the key stands in a comment, with its example. */
  readonly value: unknown;
  readonly comment: string;
}

const commentColumn = 42;
const longestLine = 160;

/** `lineOf` says what stands at each key. A key that takes effect at a reload is the caller's to mark in the comment. */
export function writeDocument(keys: Keys, lineOf: (place: Place, entry: Key, isLive: boolean) => Line): string {
  const lines: string[] = [];
  const write = (table: Keys, place: Place, isLive: boolean): void => {
    const indent = '  '.repeat(place.length);
    for (const [name, entry] of Object.entries(table)) {
      const at = [...place, name];
      const live = isLive || entry.isLive === true;
      if (entry.kind === 'section') {
        if (place.length === 0) lines.push('', `# ${entry.about}`, `${name}:`);
        else lines.push(withComment(`${indent}${name}:`, entry.about));
        write(entry.keys, at, live);
        continue;
      }
      const { value, comment } = lineOf(at, entry, live);
      lines.push(withComment(value === undefined ? `${indent}# ${name}: ${inline(entry.example)}` : `${indent}${name}: ${inline(value)}`, comment));
      for (const [inner, { about }] of Object.entries(entry.reader.keys ?? {})) if (about !== '') lines.push(`${indent}#   ${inner}: ${about}`);
    }
  };
  write(keys, [], false);
  return `${lines.join('\n')}\n`;
}

function withComment(line: string, comment: string): string {
  if (comment === '') return line;
  const beside = `${line.padEnd(commentColumn - 1)} # ${comment}`;
  return beside.length <= longestLine ? beside : `${/^ */.exec(line)?.[0]}# ${comment}\n${line}`;
}

/** A value in YAML's flow style, on one line. */
function inline(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`;
  if (typeof value === 'object' && value !== null) return `{${Object.entries(value).map(([name, each]) => `${inline(name)}: ${inline(each)}`).join(', ')}}`;
  if (typeof value === 'string' && isPlain(value)) return value;
  return JSON.stringify(value) ?? 'null';
}

/** Text that YAML reads as the same text without quotes. */
const isPlain = (value: string): boolean => /^[A-Za-z/][A-Za-z0-9_./@:+-]*$/.test(value) && !/:$|^(true|false|yes|no|on|off|null|y|n)$/i.test(value)
  || /^\d+(ns|us|ms|s|m|h|k|M|G|T|Ki|Mi|Gi|Ti)([0-9a-z]+)?$/.test(value);
