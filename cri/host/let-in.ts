/** Directories that the root of a user namespace has to pass on the way to a pod's files. */
import { chmod, chown } from 'node:fs/promises';
import { type IdMappings, rootOf } from './id-mapping.ts';

/**
 * Lets the root of the user namespace pass through `dir`, which stays closed to everybody else (below it lie setuid programs); without a user
 * namespace nothing is done, for root passes anyway. May run twice.
 */
export async function letIn(dir: string, mappings: IdMappings | undefined): Promise<void> {
  if (mappings === undefined) return;
  await chown(dir, 0, rootOf(mappings).gid);
  await chmod(dir, 0o710);
}
