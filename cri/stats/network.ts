/** The interfaces of a pod, seen from inside its network namespace, in which no process needs to run. */
import { readFileSync } from 'node:fs';
import { isErrno } from '#host/errno.ts';
import { inNetworkNamespace, namespacePath } from '#host/namespaces.ts';
import { turn } from '#host/turns.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { type InterfaceCounters, parseNetDev } from './messages.ts';

const hasOwnNetwork = (sandbox: SandboxRecord): boolean => sandbox.owns.some(({ kind }) => kind === 'network');

/** Empty with the host's network, and when the pod is just going. */
export async function interfacesOf(sandbox: SandboxRecord): Promise<InterfaceCounters[]> {
  if (!hasOwnNetwork(sandbox)) return [];
  await turn();
  try {
    return parseNetDev(inNetworkNamespace(namespacePath(sandbox.namespacesDir, 'net'), () => readFileSync('/proc/thread-self/net/dev', 'latin1')));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EINVAL')) return [];
    throw error;
  }
}
