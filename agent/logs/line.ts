/** One line of a container's log file: `2026-01-02T03:04:05.000000006Z stdout F text`. */

export interface LogLine {
  /** As written. */
  readonly timestamp: string;
  readonly stream: 'stdout' | 'stderr';
  /** False: the text goes on in the next line (runtimes cut long lines). */
  readonly isFull: boolean;
  /** Without the line's end. */
  readonly text: Buffer;
}

const space = 0x20;

/** Undefined for what is no such line: half written, or by another program. `line` without its newline; `text` is a view of it. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const afterTime = line.indexOf(space);
  if (afterTime < 0) return undefined;
  const afterStream = line.indexOf(space, afterTime + 1);
  if (afterStream < 0) return undefined;
  const spaceAfterTag = line.indexOf(space, afterStream + 1);
  const afterTag = spaceAfterTag < 0 ? line.length : spaceAfterTag;
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  const [tag] = line.toString('latin1', afterStream + 1, afterTag).split(':'); // more tags may follow a colon
  if ((stream !== 'stdout' && stream !== 'stderr') || (tag !== 'F' && tag !== 'P')) return undefined;
  return { timestamp: line.toString('latin1', 0, afterTime), stream, isFull: tag === 'F', text: line.subarray(Math.min(afterTag + 1, line.length)) };
}

/** Nanoseconds since 1970; undefined when it is no RFC 3339 time. */
export function timestampNs(timestamp: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(timestamp);
  if (match === null) return undefined;
  const seconds = Date.parse(`${match[1]}${match[3]}`);
  return Number.isNaN(seconds) ? undefined : BigInt(seconds) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** With nine digits and `Z` for UTC, whatever the runtime writes: the width must not change from line to line. */
export function fixedTimestamp(timestamp: string): string {
  const match = /^([^.Z+]+?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(timestamp);
  if (match === null) return timestamp;
  const zone = match[3] === '+00:00' || match[3] === '-00:00' ? 'Z' : match[3];
  return `${match[1]}.${(match[2] ?? '').padEnd(9, '0')}${zone}`;
}
