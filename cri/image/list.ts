/** ListImages: all images, or the one that the filter's reference or id means. */
import type { Image } from '#cri-api';
import { criImage } from './status.ts';
import type { ImageStore } from './store.ts';

/** An empty filter is none. */
export function listImages(store: Pick<ImageStore, 'find' | 'list'>, filter: string): Image[] {
  if (filter === '') return store.list().map(criImage);
  const found = store.find(filter);
  return found === undefined ? [] : [criImage(found)];
}
