/** SELinux labels of files: chcon(1). */
import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from './errno.ts';
import { setXattr } from './libc.ts';

/** Labels `path` and all below it; links themselves, not where they lead. Throws SyscallError, ENOTSUP from a file system without labels. */
export async function relabel(path: string, label: string): Promise<void> {
  const value = Buffer.from(`${label}\0`);
  setXattr(path, 'security.selinux', value);
  let directory;
  try {
    directory = await opendir(path);
  } catch (error) {
    if (isErrno(error, 'ENOTDIR')) return;
    throw error;
  }
  for await (const entry of directory) {
    if (entry.isDirectory()) await relabel(join(path, entry.name), label);
    else setXattr(join(path, entry.name), 'security.selinux', value);
  }
}
