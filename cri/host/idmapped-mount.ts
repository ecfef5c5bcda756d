/** Directories seen through a user namespace: files of id 0 on the disk belong to the root of the namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). */
import { closeSync, openSync } from 'node:fs';
import { AT_FDCWD, mountSetattr, moveMount, openTree } from './libc.ts';

const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0x80000;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const MOUNT_ATTR_RDONLY = 1n;
const MOUNT_ATTR_IDMAP = 0x100000n;

export interface IdmappedBind {
  readonly source: string;
  readonly target: string;
  readonly userNamespace: string;
  readonly readonly?: boolean;
  readonly recursive?: boolean;
}

/**
 * Binds `source` to `target`, both directories or both not, with ids mapped as the user namespace pinned at `userNamespace` maps them. `recursive` brings the
 * mounts below as well, as they are. SyscallError EINVAL where kernel or file system cannot (ext4 and xfs from 5.12, btrfs 5.15, tmpfs 6.3; an overlay
 * takes such a directory as a lower one from 5.19).
 */
export async function idmappedBind(request: IdmappedBind): Promise<void> {
  const treeFd = openTree(AT_FDCWD, request.source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (request.recursive === true ? AT_RECURSIVE : 0));
  try {
    const userFd = openSync(request.userNamespace, 'r');
    try {
      const attributes = Buffer.alloc(32);
      attributes.writeBigUInt64LE(MOUNT_ATTR_IDMAP | (request.readonly === true ? MOUNT_ATTR_RDONLY : 0n), 0);
      attributes.writeBigUInt64LE(BigInt(userFd), 24);
      mountSetattr(treeFd, AT_EMPTY_PATH, attributes);
    } finally {
      closeSync(userFd);
    }
    await moveMount(treeFd, request.target);
  } finally {
    closeSync(treeFd);
  }
}
