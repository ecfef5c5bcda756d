/** ImageFsInfo, from the records: clients ask it on every connection, so nothing is walked (CRI api.proto, ImageFsInfo). */
import type { FilesystemUsage, ImageFsInfoResponse } from '#cri-api';
import { nowNs } from '#host/clock.ts';
import type { ImageStore } from './store.ts';

/** The sum over all layers, each once. Images and containers lie on one file system here, which the two equal mount points say. */
export async function imageFsInfo(deps: { readonly store: Pick<ImageStore, 'list'>; readonly layersDir: string }): Promise<ImageFsInfoResponse> {
  const usage = new Map<string, { usedBytes: number; inodes: number }>();
  for (const { layers, layerUsage } of deps.store.list()) {
    for (const [index, layer] of layers.entries()) usage.set(layer, layerUsage[index] ?? { usedBytes: 0, inodes: 0 });
  }
  let usedBytes = 0;
  let inodes = 0;
  for (const layer of usage.values()) {
    usedBytes += layer.usedBytes;
    inodes += layer.inodes;
  }
  const filesystem: FilesystemUsage = {
    timestamp: nowNs(),
    fsId: { mountpoint: deps.layersDir },
    usedBytes: { value: BigInt(usedBytes) },
    inodesUsed: { value: BigInt(inodes) },
  };
  return { imageFilesystems: [filesystem], containerFilesystems: [filesystem] };
}
