/** Samples → median, p10 and p90; two servers → ratios; tables for people and for README. Pure. */

export interface Summary {
  readonly count: number;
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
}

/** Undefined for no samples. */
export function summarize(samples: readonly number[]): Summary | undefined {
  if (samples.length === 0) return undefined;
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (sorted.length - 1);
    const below = sorted[Math.floor(place)] ?? 0;
    const above = sorted[Math.ceil(place)] ?? below;
    return below + (above - below) * (place - Math.floor(place));
  };
  return { count: sorted.length, median: at(0.5), p10: at(0.1), p90: at(0.9) };
}

export type Unit = 'ms' | 'MiB' | '%' | '';

/** One line of the result: the same thing measured on each server. */
export interface Row {
  readonly name: string;
  readonly unit: Unit;
  /** By the server's name. */
  readonly samples: Readonly<Record<string, readonly number[]>>;
}

/** Three digits are enough: 0.61, 6.5, 98.8, 1199. */
export function short(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 1 ? 1 : 2);
}

const cell = (summary: Summary | undefined): string =>
  summary === undefined ? '–' : summary.count < 3 ? short(summary.median) : `${short(summary.median)} (${short(summary.p10)}..${short(summary.p90)})`;

/** Columns: the measurement, each server, then each of the others as a share of the reference. */
function cells(rows: readonly Row[], servers: readonly string[], reference: string | undefined): string[][] {
  const others = reference === undefined ? [] : servers.filter((name) => name !== reference);
  const head = ['', ...servers, ...others.map((name) => `${name} / ${reference}`)];
  const body = rows.map((row) => {
    const summaries = new Map(servers.map((name) => [name, summarize(row.samples[name] ?? [])]));
    const base = reference === undefined ? undefined : summaries.get(reference)?.median;
    const ratios = others.map((name) => {
      const own = summaries.get(name)?.median;
      return own === undefined || base === undefined || base === 0 ? '–' : (own / base).toFixed(2);
    });
    return [row.unit === '' ? row.name : `${row.name}, ${row.unit}`, ...servers.map((name) => cell(summaries.get(name))), ...ratios];
  });
  return [head, ...body];
}

export interface TableOptions {
  readonly rows: readonly Row[];
  readonly servers: readonly string[];
  /** The server that the others are divided by. */
  readonly reference: string | undefined;
}

/** For a terminal. */
export function textTable({ rows, servers, reference }: TableOptions): string {
  const table = cells(rows, servers, reference);
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)));
  return table.map((line) => line.map((text, column) => (column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0))).join('  ')).join('\n');
}

/** For README.md. */
export function markdownTable({ rows, servers, reference }: TableOptions): string {
  const [head = [], ...body] = cells(rows, servers, reference).map((line) => `| ${line.join(' | ')} |`);
  return [head, `|${' --- |'.repeat(servers.length + 1 + (reference === undefined ? 0 : servers.length - 1))}`, ...body].join('\n');
}
