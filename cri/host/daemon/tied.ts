/** Keys that follow from other keys as long as nobody says them. Pure. */
import type { Layer } from '../config/files.ts';
import { valueAt } from '../config/key.ts';
import type { Tie } from './program.ts';

/** Layers that lie below everything that was said. */
export function tiedLayers(ties: readonly Tie[], said: unknown, isWholeNode: boolean): Layer[] {
  const layers: Layer[] = [];
  const followed = new Map<string, unknown>();
  for (const { from, to, follow, isForWholeNode } of ties) {
    if (isForWholeNode === true && !isWholeNode) continue;
    const source = valueAt(said, from.split('.')) ?? followed.get(from);
    const value = follow(source);
    if (value === undefined) continue;
    followed.set(to, value);
    layers.push({ content: contentAt(to, value), sourceOf: () => `follows from ${source === undefined ? 'the absence of ' : ''}${from}` });
  }
  return layers;
}

/** A mapping in which only the key with that dotted name has a value. */
export const contentAt = (name: string, value: unknown): Layer['content'] =>
  name.split('.').reduceRight((inner, part) => ({ [part]: inner }), value) as Layer['content']; // the outermost is a mapping
