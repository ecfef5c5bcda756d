/** emptyDir: a directory of the node's disk, or memory. */
import { access, chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isErrno } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { isMountPoint, mount } from '#host/mount.ts';
import { parseQuantity, wholeOf } from '../../kube/quantity.ts';
import type { Pod, Volume } from '../../kube/types.ts';
import type { SetUp } from '../kind.ts';
import { applyFsGroup } from '../ownership.ts';

export const setUpEmptyDir: SetUp<NonNullable<Volume['emptyDir']>> = async (ctx, _deps, { pod, dir, readyFile }, { medium = '', sizeLimit }) => {
  if (medium !== '' && medium !== 'Memory') throw new Fault('unimplemented', `unknown storage medium ${JSON.stringify(medium)}`);
  const inMemory = medium === 'Memory';
  const isReady = (await exists(readyFile)) && (await exists(dir)) && (!inMemory || (await isMountPoint(dir)));
  if (!isReady) {
    await mkdir(dir, { recursive: true, mode: 0o777 });
    if (inMemory) await mountMemory(dir, memoryLimit(pod, sizeLimit));
    else await chmod(dir, 0o777); // whatever the umask
    const group = pod.spec?.securityContext?.fsGroup;
    if (group !== undefined) await applyFsGroup(ctx, dir, group);
    await mkdir(dirname(readyFile), { recursive: true, mode: 0o750 });
    await writeFile(readyFile, '');
  }
  return { hostPath: dir, readOnly: false };
};

/** tmpfs as the kubelet mounts it: kept out of swap where the kernel can (Linux 6.4). */
export async function mountMemory(dir: string, sizeBytes: bigint | undefined): Promise<void> {
  if (await isMountPoint(dir)) return;
  const size = sizeBytes === undefined ? [] : [`size=${sizeBytes}`];
  try {
    await mount({ type: 'tmpfs', target: dir, options: [...size, 'noswap'] });
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error;
    await mount({ type: 'tmpfs', target: dir, options: size });
  }
}

/** The smaller of what the volume asks for and what all containers together may use. */
function memoryLimit(pod: Pod, sizeLimit: string | undefined): bigint | undefined {
  const candidates: bigint[] = [];
  const asked = sizeLimit === undefined ? undefined : parseQuantity(sizeLimit);
  if (asked !== undefined && asked > 0n) candidates.push(wholeOf(asked));
  const limits = (pod.spec?.containers ?? []).map((container) => parseQuantity(container.resources?.limits?.['memory'] ?? ''));
  if (limits.length > 0 && limits.every((limit) => limit !== undefined)) candidates.push(limits.reduce((sum, limit) => sum + wholeOf(limit), 0n));
  return candidates.length === 0 ? undefined : candidates.reduce((least, one) => (one < least ? one : least));
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
