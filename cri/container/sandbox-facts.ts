/** What a container takes from its sandbox. Pure. */
import { join } from 'node:path';
import { NamespaceMode } from '#cri-api';
import type { SandboxFacts } from '../spec/container-spec.ts';
import { userMappings } from '../spec/user-namespace.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';

/** Of a ready sandbox. `namespacePath` is #host/namespaces': where a kind of namespace is pinned. */
export function sandboxFacts(sandbox: SandboxRecord, namespacePath: (dir: string, kind: 'user' | 'net' | 'ipc' | 'uts') => string): SandboxFacts {
  const { config, dir, namespacesDir } = sandbox;
  const options = config.linux?.securityContext?.namespaceOptions;
  const mappings = userMappings(options);
  const hasOwnNetwork = options?.network !== NamespaceMode.NODE;
  const hasOwnIpc = options?.ipc !== NamespaceMode.NODE;
  return {
    id: sandbox.id,
    name: config.metadata?.name ?? '',
    namespace: config.metadata?.namespace ?? '',
    uid: config.metadata?.uid ?? '',
    hostname: sandbox.hostname,
    privileged: config.linux?.securityContext?.privileged ?? false,
    namespaces: {
      user: mappings === undefined ? undefined : namespacePath(namespacesDir, 'user'),
      net: hasOwnNetwork ? namespacePath(namespacesDir, 'net') : undefined,
      uts: hasOwnNetwork ? namespacePath(namespacesDir, 'uts') : undefined,
      ipc: hasOwnIpc ? namespacePath(namespacesDir, 'ipc') : undefined,
      pid: sandbox.init === undefined ? undefined : `/proc/${sandbox.init.pid}/ns/pid`,
    },
    mappings,
    selinuxLevel: sandbox.selinuxLevel ?? 's0',
    files: {
      hosts: join(dir, 'hosts'),
      hostname: join(dir, 'hostname'),
      resolvConf: join(dir, 'resolv.conf'),
      shm: hasOwnIpc ? join(dir, 'shm') : undefined,
    },
  };
}
