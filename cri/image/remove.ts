/** RemoveImage: by any of its names the whole image goes, with all its names; unknown is success (CRI api.proto, RemoveImage). */
import type { Ctx } from '#host/ctx.ts';
import type { ImageStore } from './store.ts';

/** Only the record: it is invisible at once; the sweep frees the space, when no container needs the layers. */
export async function removeImage(ctx: Ctx, deps: { readonly store: Pick<ImageStore, 'find' | 'delete'> }, refOrId: string): Promise<void> {
  const found = deps.store.find(refOrId);
  if (found === undefined) return;
  await deps.store.delete(found.id);
  ctx.log.info({ image: found.id, names: [...found.repoTags, ...found.repoDigests] }, 'image removed');
}
