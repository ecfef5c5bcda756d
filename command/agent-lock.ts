/** One agent per root directory; the CRI server has a lock of its own. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Fault } from '#host/fault.ts';
import { lockFile } from '#host/lock-file.ts';

export const agentLockName = 'agent.lock';

/** Fault precondition while another nodelet holds it. */
export async function lockAgent(root: string): Promise<Disposable> {
  await mkdir(root, { recursive: true, mode: 0o711 });
  const lock = lockFile(join(root, agentLockName));
  if (lock === undefined) throw new Fault('precondition', `${root} is in use by another nodelet: stop that first`);
  return lock;
}
