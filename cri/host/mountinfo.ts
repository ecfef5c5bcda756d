/** What is mounted where: /proc/self/mountinfo (proc(5)). */
import { readFile, realpath } from 'node:fs/promises';

export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  /** `shared:N`, `master:N` and the like. */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
}

/** Space, tab, newline and backslash are written as octal escapes. */
const unescape = (text: string): string => text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** Lines that are not of the known form are skipped. */
export function parseMountinfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    const [id, parentId, , root, mountPoint, options, ...propagation] = (left ?? '').split(' ');
    const [type, source] = (right ?? '').split(' ');
    if (id === undefined || parentId === undefined || root === undefined || mountPoint === undefined || options === undefined || type === undefined) continue;
    mounts.push({
      id: Number(id),
      parentId: Number(parentId),
      root: unescape(root),
      mountPoint: unescape(mountPoint),
      options: options.split(','),
      propagation: propagation.filter((word) => word !== ''),
      type,
      source: unescape(source ?? ''),
    });
  }
  return mounts;
}

export const readMounts = async (): Promise<MountInfo[]> => parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));

/** The mounts at or below `path` (absolute, without symlinks), in the order in which they were made: undo from the end. */
export async function mountsBelow(path: string): Promise<MountInfo[]> {
  const prefix = path.endsWith('/') ? path : `${path}/`;
  return (await readMounts()).filter(({ mountPoint }) => mountPoint === path || mountPoint.startsWith(prefix));
}

/** The mount that `path` lies on. */
export async function mountOf(path: string): Promise<MountInfo | undefined> {
  const real = await realpath(path);
  const above = (await readMounts()).filter(({ mountPoint }) => mountPoint === '/' || mountPoint === real || real.startsWith(`${mountPoint}/`));
  // Of two mounts on one point, the later covers the earlier.
  return above.toReversed().toSorted((a, b) => b.mountPoint.length - a.mountPoint.length)[0];
}

/** What the file system that `path` lies on is mounted from: `/dev/vda1`, or whatever stands there for one without a device. */
export const deviceOf = async (path: string): Promise<string> => (await mountOf(path))?.source ?? '';
