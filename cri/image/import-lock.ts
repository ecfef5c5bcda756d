/**
 * An import may run in another process than the server (`nodelet image import`). While it does, layers that it relies on have no record yet: nobody else
 * may sweep. The lock is flock(2) on a file, which the kernel frees when its holder dies.
 */
import { join } from 'node:path';
import { lockFile } from '#host/lock-file.ts';

/** Undefined while somebody else holds it. */
export const takeImportLock = (imagesDir: string): Disposable | undefined => lockFile(join(imagesDir, 'import.lock'));
