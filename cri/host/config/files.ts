/** The configuration's files: one, and the drop-ins beside it in the order of their names; what is said later wins. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { isErrno } from '../errno.ts';
import { explain } from '../fault.ts';
import { isMapping, type Place, type Problem } from './key.ts';

type Mapping = Readonly<Record<string, unknown>>;

/** One place that configuration comes from. */
export interface Layer {
  readonly content: Mapping;
  /** For messages: `FILE:LINE` of a place in it, as exact as is known. */
  sourceOf(place: Place): string;
}
export interface FileProblem {
  /** `FILE:LINE`. */
  readonly source: string;
  readonly message: string;
}

/** `/etc/nodelet/config.yaml` → `/etc/nodelet/config.d`. */
export const dropInDir = (file: string): string => join(dirname(file), `${basename(file, extname(file))}.d`);

/** The file, if it is there or `mustExist`, and its drop-ins, lowest first. Everything that cannot be read is reported, the rest returned. */
export async function readConfigFiles(file: string, options: { readonly mustExist: boolean }, report: (problem: FileProblem) => void): Promise<Layer[]> {
  const layers: Layer[] = [];
  for (const path of [file, ...(await dropIns(file, report))]) {
    try {
      const layer = parseLayer(path, await readFile(path, 'utf8'), report);
      if (layer !== undefined) layers.push(layer);
    } catch (error) {
      // A drop-in may go while they are read: then it is not there.
      if (isErrno(error, 'ENOENT') && (path !== file || !options.mustExist)) continue;
      report({ source: path, message: `cannot be read: ${explain(error)}` });
    }
  }
  return layers;
}

async function dropIns(file: string, report: (problem: FileProblem) => void): Promise<string[]> {
  const dir = dropInDir(file);
  try {
    return (await readdir(dir)).filter((name) => name.endsWith('.yaml') && !name.startsWith('.')).toSorted().map((name) => join(dir, name));
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) report({ source: dir, message: `cannot be read: ${explain(error)}` });
    return [];
  }
}

/** Undefined: it is no mapping in YAML, which was reported with its lines. */
export function parseLayer(file: string, content: string, report: (problem: FileProblem) => void): Layer | undefined {
  const lines = new LineCounter();
  const document = parseDocument(content, { lineCounter: lines });
  for (const { message, pos } of document.errors) {
    // The library adds "at line … column …:" and an excerpt, which the source says already.
    report({ source: `${file}:${lines.linePos(pos[0]).line}`, message: `not YAML: ${(message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '')}` });
  }
  if (document.errors.length > 0) return undefined;
  let value: unknown;
  try {
    value = document.toJS() ?? {};
  } catch (error) {
    // Aliases without end.
    report({ source: file, message: `not YAML: ${explain(error)}` });
    return undefined;
  }
  if (!isMapping(value)) {
    report({ source: file, message: 'must be a mapping' });
    return undefined;
  }
  return {
    content: value,
    sourceOf: (place) => {
      const offset = offsetOf(document.contents, place);
      return offset === undefined ? file : `${file}:${lines.linePos(offset).line}`;
    },
  };
}

/** Where the deepest part of `place` that is there begins. */
function offsetOf(root: unknown, place: Place): number | undefined {
  let node = root;
  let offset: number | undefined;
  for (const step of place) {
    if (isAlias(node)) return offset;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (pair === undefined) return offset;
      offset = (isScalar(pair.key) ? pair.key.range?.[0] : undefined) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = (node as { range?: readonly number[] | null } | undefined)?.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

/** Mappings are laid over each other key by key; everything else, lists too, is replaced. */
export function merge(layers: readonly Layer[]): Mapping {
  const lay = (under: Mapping, over: Mapping): Mapping => {
    const result: Record<string, unknown> = { ...under };
    for (const [name, value] of Object.entries(over)) {
      const below = result[name];
      result[name] = isMapping(below) && isMapping(value) ? lay(below, value) : value;
    }
    return result;
  };
  return layers.reduce<Mapping>((under, { content }) => lay(under, content), {});
}

/** The layer that had the last word about a place, undefined when none speaks of it. */
export function speakerOf(layers: readonly Layer[], place: Place): Layer | undefined {
  return layers.findLast(({ content }) => {
    let value: unknown = content;
    for (const step of place) {
      if (Array.isArray(value)) value = value[Number(step)];
      else if (isMapping(value) && Object.hasOwn(value, String(step))) value = value[step];
      else return false;
    }
    return true;
  });
}

/** `FILE:LINE: cri.socket: what is wrong`. */
export function describeProblem(layers: readonly Layer[], { place, message }: Problem): string {
  const name = place.map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index === 0 ? '' : '.'}${step}`)).join('');
  const source = speakerOf(layers, place)?.sourceOf(place) ?? sourceAbove(layers, place);
  return [source, name, message].filter((part) => part !== '').join(': ');
}

/** For what is missing: the nearest place above it that somebody spoke of. */
function sourceAbove(layers: readonly Layer[], place: Place): string {
  for (let length = place.length - 1; length > 0; length--) {
    const above = place.slice(0, length);
    const speaker = speakerOf(layers, above);
    if (speaker !== undefined) return speaker.sourceOf(above);
  }
  return '';
}
