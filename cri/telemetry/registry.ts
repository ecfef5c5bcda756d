/** Metrics in the text format of Prometheus (prometheus.io, Exposition formats, 0.0.4). Pure but for what gauges read. */

type Labels = readonly string[];

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Lines without the name's head. */
  readonly lines: () => readonly string[];
}

export interface Counter {
  add(amount: number, ...labels: Labels): void;
}

export interface Histogram {
  observe(value: number, ...labels: Labels): void;
}

/** A number and the values of its labels. */
export type Sample = readonly [value: number, ...labels: string[]];

const escaped = (value: string): string => value.replaceAll(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
const line = (name: string, keys: readonly string[], values: readonly string[], value: number): string => {
  const labels = keys.map((key, index) => `${key}="${escaped(values[index] ?? '')}"`).join(',');
  return `${name}${labels === '' ? '' : `{${labels}}`} ${value}`;
};
/** Values of labels, as the key of a map. */
const joined = (labels: Labels): string => labels.join('\0');
const parted = (key: string): string[] => key.split('\0');

interface Observed {
  /** How many were at most the bound of the same index. */
  readonly counts: number[];
  sum: number;
  count: number;
}

export class MetricRegistry {
  readonly #families: Family[] = [];

  counter(name: string, help: string, keys: readonly string[] = []): Counter {
    const values = new Map<string, number>(keys.length === 0 ? [['', 0]] : []);
    this.#families.push({ name, help, type: 'counter', lines: () => [...values].map(([labels, value]) => line(name, keys, parted(labels), value)) });
    return { add: (amount, ...labels) => void values.set(joined(labels), (values.get(joined(labels)) ?? 0) + amount) };
  }

  /** `read` is called at each scrape. */
  gauge(name: string, help: string, keys: readonly string[], read: () => readonly Sample[]): void {
    this.#read('gauge', { name, help, keys, read });
  }

  /** A counter that somebody else keeps. */
  readCounter(name: string, help: string, keys: readonly string[], read: () => readonly Sample[]): void {
    this.#read('counter', { name, help, keys, read });
  }

  #read(type: 'counter' | 'gauge', { name, help, keys, read }: { name: string; help: string; keys: readonly string[]; read: () => readonly Sample[] }): void {
    this.#families.push({ name, help, type, lines: () => read().map(([value, ...labels]) => line(name, keys, labels, value)) });
  }

  /** `bounds` ascend; the last bucket, without a bound, is added. */
  histogram(name: string, help: string, keys: readonly string[], bounds: readonly number[]): Histogram {
    const series = new Map<string, Observed>();
    const lines = (): string[] => [...series].flatMap(([labels, { counts, sum, count }]) => [
      ...bounds.map((bound, index) => line(`${name}_bucket`, [...keys, 'le'], [...parted(labels).slice(0, keys.length), String(bound)], counts[index] ?? 0)),
      line(`${name}_bucket`, [...keys, 'le'], [...parted(labels).slice(0, keys.length), '+Inf'], count),
      line(`${name}_sum`, keys, parted(labels), sum),
      line(`${name}_count`, keys, parted(labels), count),
    ]);
    this.#families.push({ name, help, type: 'histogram', lines });
    return {
      observe: (value, ...labels) => {
        const key = joined(labels);
        const seen = series.get(key) ?? { counts: bounds.map(() => 0), sum: 0, count: 0 };
        series.set(key, seen);
        seen.sum += value;
        seen.count += 1;
        for (const [index, bound] of bounds.entries()) if (value <= bound) seen.counts[index] = (seen.counts[index] ?? 0) + 1;
      },
    };
  }

  text(): string {
    return this.#families.map(({ name, help, type, lines }) => [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines(), ''].join('\n')).join('');
  }
}
