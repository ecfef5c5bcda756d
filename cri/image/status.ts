/** ImageStatus: an image by any of its names; one that is not here is an answer, not an error (CRI api.proto, ImageStatus). */
import type { Image, ImageStatusResponse } from '#cri-api';
import type { BlobStore } from './blob-store.ts';
import type { ImageRecord, ImageStore } from './store.ts';

/** The user part of `user[:group]`: digits are a uid, anything else a name. */
function imageUser(user: string): { uid: bigint | undefined; username: string } {
  const [name = ''] = user.split(':', 1);
  if (name === '') return { uid: undefined, username: '' };
  return /^[0-9]{1,18}$/.test(name) ? { uid: BigInt(name), username: '' } : { uid: undefined, username: name };
}

export function criImage(record: ImageRecord): Image {
  const { uid, username } = imageUser(record.config.user);
  return {
    id: record.id,
    repoTags: [...record.repoTags],
    repoDigests: [...record.repoDigests],
    size: BigInt(record.sizeBytes),
    uid: uid === undefined ? undefined : { value: uid },
    username,
    spec: undefined,
    pinned: record.pinned,
  };
}

/** With `verbose`, `info` has what `crictl inspecti` shows: the chain id and the whole configuration. */
export async function imageStatus(
  deps: { readonly store: Pick<ImageStore, 'find'>; readonly blobs: Pick<BlobStore, 'read'> },
  refOrId: string,
  options: { readonly verbose: boolean },
): Promise<ImageStatusResponse> {
  const record = deps.store.find(refOrId);
  if (record === undefined) return { image: undefined, info: {} };
  const image = criImage(record);
  if (!options.verbose) return { image, info: {} };
  const config = await deps.blobs.read(record.id);
  const imageSpec: unknown = config === undefined ? null : JSON.parse(Buffer.from(config).toString('utf8'));
  return { image, info: { info: JSON.stringify({ chainID: record.layers.at(-1) ?? '', imageSpec }) } };
}
