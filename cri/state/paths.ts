/** Every path of the CRI server below its two directories. Pure. */
import { join } from 'node:path';
import type { ContainerId, SandboxId } from './ids.ts';

export interface CriPaths {
  /** Survives a reboot: records, images, layers, writable layers. */
  readonly rootDir: string;
  /** Does not: sockets, pinned namespaces, state of the OCI runtime. Kept short, for unix sockets end at 107 bytes. */
  readonly stateDir: string;
  readonly imagesDir: string;
  readonly layersDir: string;
  readonly containersDir: string;
  readonly sandboxesDir: string;
  readonly cniDir: string;
  readonly lockFile: string;
  readonly exitsDir: string;
  readonly conmonSocketsDir: string;
  ociRootDir(handler: string): string;
  /** Also the OCI bundle: record.json, config.json, rootfs, upper, work. */
  containerDir(id: ContainerId): string;
  /** record.json, hosts, hostname, resolv.conf, shm. */
  sandboxDir(id: SandboxId): string;
  namespacesDir(id: SandboxId): string;
}

export function criPaths(dirs: { readonly rootDir: string; readonly stateDir: string }): CriPaths {
  const { rootDir, stateDir } = dirs;
  return {
    rootDir,
    stateDir,
    imagesDir: join(rootDir, 'images'),
    layersDir: join(rootDir, 'layers'),
    containersDir: join(rootDir, 'containers'),
    sandboxesDir: join(rootDir, 'sandboxes'),
    cniDir: join(rootDir, 'cni'),
    lockFile: join(rootDir, 'lock'),
    exitsDir: join(stateDir, 'exits'),
    conmonSocketsDir: join(stateDir, 'conmon'),
    ociRootDir: (handler) => join(stateDir, 'oci', handler),
    containerDir: (id) => join(rootDir, 'containers', id),
    sandboxDir: (id) => join(rootDir, 'sandboxes', id),
    namespacesDir: (id) => join(stateDir, 'ns', id),
  };
}
