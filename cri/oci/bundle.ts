/** What an OCI bundle tells about its container when nothing else does. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '#host/errno.ts';

/** The control group of container `id`, from config.json; undefined when there is none yet or it is in the systemd driver's notation (the runtime's own delete knows that). */
export async function cgroupInBundle(bundleDir: string, id: string): Promise<string | undefined> {
  try {
    const spec: unknown = JSON.parse(await readFile(join(bundleDir, 'config.json'), 'utf8'));
    const linux = typeof spec === 'object' && spec !== null && 'linux' in spec ? spec.linux : undefined;
    const path = typeof linux === 'object' && linux !== null && 'cgroupsPath' in linux ? linux.cgroupsPath : undefined;
    return typeof path === 'string' && path.startsWith('/') && path.endsWith(`/${id}`) ? path : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
