/** Layers from blobs, in worker threads. */
import type { Layers } from '../snapshot/layers.ts';

export class Unpacker {
  constructor(_deps: { layers: Layers }) {}
  async close(): Promise<void> {}
}
