/** hostPath: something of the node itself, checked for what the pod expects there. Never removed. */
import { chmod, mkdir, open, stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import type { Volume } from '../../kube/types.ts';
import type { SetUp } from '../kind.ts';

interface Expectation {
  readonly word: string;
  readonly holds: (info: Stats) => boolean;
  readonly make?: (path: string) => Promise<void>;
}

const makeDirectory = async (path: string): Promise<void> => {
  await mkdir(path, { recursive: true, mode: 0o755 });
  await chmod(path, 0o755); // whatever the umask
};

const makeFile = async (path: string): Promise<void> => {
  await using file = await open(path, 'a', 0o644);
  await file.chmod(0o644);
};

const expectations: Readonly<Record<string, Expectation>> = {
  DirectoryOrCreate: { word: 'directory', holds: (info) => info.isDirectory(), make: makeDirectory },
  Directory: { word: 'directory', holds: (info) => info.isDirectory() },
  FileOrCreate: { word: 'file', holds: (info) => info.isFile(), make: makeFile },
  File: { word: 'file', holds: (info) => info.isFile() },
  Socket: { word: 'socket file', holds: (info) => info.isSocket() },
  CharDevice: { word: 'character device', holds: (info) => info.isCharacterDevice() },
  BlockDevice: { word: 'block device', holds: (info) => info.isBlockDevice() },
};

/** Source of the words: kubelet 1.37 pkg/volume/hostpath/host_path.go. */
export const setUpHostPath: SetUp<NonNullable<Volume['hostPath']>> = async (_ctx, _deps, _task, { path, type = '' }) => {
  if (path.split('/').includes('..')) throw new Fault('invalid', `invalid HostPath \`${path}\`: must not contain '..'`);
  if (type !== '') {
    const expected = expectations[type];
    if (expected === undefined) throw new Fault('invalid', `${type} is an invalid volume type`);
    await check(path, expected);
  }
  return { hostPath: path, readOnly: false };
};

async function check(path: string, { word, holds, make }: Expectation): Promise<void> {
  let info: Stats;
  try {
    info = await stat(path);
  } catch (cause) {
    const isAbsent = isErrno(cause, 'ENOENT');
    if (isAbsent && make !== undefined) return make(path);
    const why = isAbsent ? `path ${JSON.stringify(path)} does not exist` : explain(cause);
    throw new Fault('precondition', `hostPath type check failed, ${path} is not a ${word}, unable to determine its type: ${why}`);
  }
  if (!holds(info)) throw new Fault('precondition', `hostPath type check failed: ${path} is not a ${word}, it's a ${typeName(info)}`);
}

function typeName(info: Stats): string {
  if (info.isDirectory()) return 'Directory';
  if (info.isFile()) return 'File';
  if (info.isSocket()) return 'Socket';
  return info.isBlockDevice() ? 'BlockDevice' : 'CharDevice';
}
