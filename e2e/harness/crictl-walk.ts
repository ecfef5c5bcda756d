/** The stage of the crictl tests: a CRI server with a registry, crictl before it, and configurations as a person would write them. */
import path from 'node:path';
import { startCri, type CriServer } from './cri-server.ts';
import { nothingLeft } from './leaks.ts';
import { busyboxImage, testRegistry } from './registry.ts';
import { crictlFor, type Crictl } from './shell.ts';

/** Everything is stopped at the end, so a body may leave pods behind when an assertion fails. */
export async function withCri(body: (crictl: Crictl, cri: CriServer) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using cri = await startCri({ writeHosts: registry.writeHosts });
    await using crictl = await crictlFor(cri.socket);
    await body(crictl, cri);
  });
}

export const podConfig = (cri: CriServer, name: string, more: object = {}): object => ({
  metadata: { name, namespace: 'e2e', uid: `${name}-uid`, attempt: 0 }, hostname: name, log_directory: path.join(cri.dir, 'pod-logs', name), labels: { app: name }, ...more,
});
export const containerConfig = (name: string, command: readonly string[], more: object = {}): object => ({
  metadata: { name, attempt: 0 }, image: { image: busyboxImage }, command, log_path: `${name}.log`, labels: { part: name }, annotations: { note: 'kept' }, envs: [{ key: 'WORD', value: 'of mouth' }],
  ...more,
});

/** A group for the pods of this server, which the harness takes away. */
export const cgroupParent = (cri: CriServer): string => (cri.name === 'containerd' ? '/k8s.io' : `/e2e-${path.basename(cri.dir).slice('e2e-nlt-'.length).toLowerCase()}`);
export const ownGroup = (cri: CriServer): object => ({ linux: { cgroup_parent: cgroupParent(cri) } });
/** Quicker, for pods that nobody talks to. */
export const onHostNetwork = { hostname: '', linux: { security_context: { namespace_options: { network: 2 } } } } as const;

/** Runs a pod with one container and answers both ids. */
export async function runContainer(crictl: Crictl, cri: CriServer, options: { name: string; command: readonly string[]; pod?: object; container?: object }): Promise<{ pod: string; id: string }> {
  const { name } = options;
  await crictl.run(['pull', busyboxImage]);
  const podFile = await crictl.file(`${name}-pod.json`, podConfig(cri, name, options.pod));
  const pod = (await crictl.run(['runp', podFile])).trim();
  const id = (await crictl.run(['create', pod, await crictl.file(`${name}.json`, containerConfig(name, options.command, options.container)), podFile])).trim();
  await crictl.run(['start', id]);
  return { pod, id };
}

export const lines = (text: string): string[] => text.split('\n').filter(Boolean);
