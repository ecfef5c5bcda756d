/** containerd 2.4 as the reference CRI server: private root, state, sockets, bridge and subnet. */
import { mkdir, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { logFile, runningPid, startService, stopService, waitUntilReady, killService, type Service } from '../../hack/cluster/processes.ts';
import type { CriOptions, CriServer } from './cri-server.ts';
import { bridgeConflist, cgroupHierarchies, deleteInterface, freeSubnet, keepFoldersAsTheyAre, privateDir, removeWithMounts } from './private.ts';
import { crictlFor, shell } from './shell.ts';
import { containerdConfig } from '../../hack/judges/containerd-config.ts';
import { cniBinDir, judge, repositoryRoot, systemProgram } from './tools.ts';

export interface ContainerdOptions extends CriOptions {
  /** Image that holds a sandbox's namespaces; it must be pullable. */
  readonly sandboxImage?: string;
}

/** Starts containerd and returns when it answers. With `runtime: 'crun'` it runs where only cgroup v1 is seen: crun refuses hybrid machines. */
export async function startContainerd(options: ContainerdOptions = {}): Promise<CriServer> {
  // pods without a cgroup parent go to /k8s.io; the shim and the CNI library have fixed folders
  const putBack = keepFoldersAsTheyAre(['/run/containerd', '/run/containerd/runc', '/var/lib/cni', '/var/lib/cni/results', ...cgroupHierarchies().map((each) => path.join(each, 'k8s.io'))]);
  const place = await privateDir('e2e-ctd');
  const { dir } = place;
  const bridge = `ctd${place.id}`;
  const certsDir = path.join(dir, 'certs.d');
  for (const each of ['root', 'state', 's', 'certs.d', 'cni/net.d']) await mkdir(path.join(dir, each), { recursive: true });
  await options.writeHosts?.(certsDir);
  await writeFile(path.join(dir, 'cni/net.d/10-e2e.conflist'), bridgeConflist({ name: `e2e-${place.id}`, bridge, subnet: freeSubnet(), dataDir: path.join(dir, 'cni/ipam') }));
  if (options.runtime === 'crun') await shell(systemProgram('gcc'), ['-O2', '-o', path.join(dir, 'crun-compat'), `-DCRUN="${systemProgram('crun')}"`, path.join(repositoryRoot, 'hack/judges/crun-compat.c')]);
  await writeFile(path.join(dir, 'config.toml'), configuration(dir, options));
  const socket = path.join(dir, 'containerd.sock');
  const service = serviceFor(dir, options.runtime);
  const start = async (): Promise<void> => {
    await startService(service);
    await waitUntilReady(service, () => answers(socket));
  };
  await start();
  return {
    name: 'containerd', socket, dir, certsDir, logFile: logFile(service), start,
    get pid() { return runningPid(service); },
    stop: () => stopService(service),
    kill: () => killService(service),
    [Symbol.asyncDispose]: async () => {
      if (runningPid(service) === undefined) await start();
      await removeAllPods(socket);
      await stopService(service);
      await deleteInterface(bridge);
      await removeWithMounts(dir);
      putBack();
    },
  };
}

/** True when the CRI at this socket answers Version. */
export async function answers(socket: string): Promise<boolean> {
  await using crictl = await crictlFor(socket);
  return (await crictl.output(['--timeout', '5s', 'version'])).exitCode === 0;
}

/** By the CRI, as the kubelet would: every sandbox with its containers. */
export async function removeAllPods(socket: string): Promise<void> {
  await using crictl = await crictlFor(socket);
  const pods = (await crictl.run(['pods', '-q'])).split('\n').filter(Boolean);
  for (const pod of pods) await crictl.output(['rmp', '-f', pod]);
}

function serviceFor(dir: string, runtime: CriOptions['runtime']): Service {
  const program = judge('containerd');
  const withoutV2 = ['/usr/bin/unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c', 'umount /sys/fs/cgroup/unified && exec "$@"', '-'];
  const hybrid = readFileSync('/proc/self/mountinfo', 'utf8').includes(' /sys/fs/cgroup/unified ');
  return {
    name: 'containerd', dir, program, args: ['--config', path.join(dir, 'config.toml')], ephemeral: true,
    ...(runtime === 'crun' && hybrid ? { via: withoutV2 } : {}),
    env: { PATH: `${path.dirname(program)}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  };
}

function configuration(dir: string, { runtime = 'runc', sandboxImage = 'registry.k8s.io/pause:3.10.2' }: ContainerdOptions): string {
  return containerdConfig({
    dir, runtime, sandboxImage, socket: path.join(dir, 'containerd.sock'), confDir: path.join(dir, 'cni/net.d'), certsDir: path.join(dir, 'certs.d'), cniBinDir: cniBinDir(),
    program: runtime === 'crun' ? path.join(dir, 'crun-compat') : judge('runc'),
  });
}

/** Loads an OCI layout or docker archive without a registry, into the namespace that the CRI uses. */
export async function importIntoContainerd(server: CriServer, archive: string): Promise<void> {
  await shell(judge('ctr'), ['-a', server.socket, '-n', 'k8s.io', 'images', 'import', archive]);
}
