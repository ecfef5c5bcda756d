/** Images that a test makes up, behind a registry of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Layer } from '../../hack/images/layer.ts';
import { Layout, type ImageForm } from '../../hack/images/layout.ts';
import { startRegistry, type Registry, type RegistryOptions } from '../../hack/registry.ts';

export interface MadeImage extends ImageForm {
  readonly reference: string;
  /** Tars, bottom first. */
  readonly layers: readonly Buffer[];
}

export async function madeRegistry(images: readonly MadeImage[], options: Omit<RegistryOptions, 'layouts'> = {}): Promise<Registry> {
  const dir = await mkdtemp(path.join(tmpdir(), 'made-images-'));
  const layout = new Layout(dir);
  for (const { reference, layers, ...form } of images) layout.image([reference], layers, {}, { index: false, ...form });
  layout.finish();
  const registry = await startRegistry({ layouts: [dir], ...options });
  return {
    ...registry,
    [Symbol.asyncDispose]: async () => {
      await registry[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };
}

/** A layer of one file. */
export const fileLayer = (name: string, content: Uint8Array): Buffer => new Layer().file(name, content).bytes();
