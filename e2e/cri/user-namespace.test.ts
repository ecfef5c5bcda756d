/** A pod whose root is nobody on the host, by crictl, with a runtime that maps the ids of volumes (runc 1.5): what it may do, and that a restart of the server changes nothing. */
import assert from 'node:assert/strict';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/eventually.ts';
import { nothingLeft } from '../harness/leaks.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { busyboxImage, tagImage, testRegistry } from '../harness/registry.ts';
import { crictlFor, type Crictl } from '../harness/shell.ts';
import { judge, needs } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon');
const rootId = 1_200_000;
const range = [{ host_id: rootId, container_id: 0, length: 65_536 }];

async function withNode(body: (crictl: Crictl, node: Nodelet) => Promise<void>): Promise<void> {
  await nothingLeft(async () => {
    await using registry = await testRegistry();
    await using node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts, config: { runtimes: [{ name: 'runc', path: judge('runc') }] } });
    await using crictl = await crictlFor(node.socket);
    for (const image of [busyboxImage, tagImage]) await crictl.run(['pull', image]);
    await body(crictl, node);
  });
}

/** pid 0: one namespace for the pod, with an init in the same user namespace. */
const podConfig = (node: Nodelet, name: string, network: 'pod' | 'host'): object => ({
  metadata: { name, namespace: 'e2e', uid: `${name}-uid`, attempt: 0 }, hostname: name, log_directory: path.join(node.dir, 'pod-logs', name),
  linux: { security_context: { namespace_options: { network: network === 'host' ? 2 : 0, pid: 0, userns_options: { mode: 0, uids: range, gids: range } } }, sysctls: { 'kernel.shm_rmid_forced': '1' } },
});

test('volumes, images, exec and sysctls work below a user namespace, through a kill of the server, and the host sees another root', what, () => withNode(async (crictl, node) => {
  assert.match(await crictl.run(['info']), /"user_?namespaces": true/i);
  const volume = path.join(node.dir, 'volume');
  await mkdir(volume);
  await writeFile(path.join(volume, 'secret'), 'of root\n', { mode: 0o600 });
  const podFile = await crictl.file('pod.json', podConfig(node, 'mapped', 'pod'));
  const pod = (await crictl.run(['runp', podFile])).trim();
  const containerFile = await crictl.file('container.json', {
    metadata: { name: 'c', attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', 'echo up; exec sleep 10000'], log_path: 'c.log',
    mounts: [
      { container_path: '/volume', host_path: volume, uidMappings: range, gidMappings: range },
      { container_path: '/image', readonly: true, image: { image: tagImage } },
    ],
  });
  const container = (await crictl.run(['create', pod, containerFile, podFile])).trim();
  await crictl.run(['start', container]);
  const sh = async (script: string): Promise<string> => (await crictl.run(['exec', '-s', container, 'sh', '-c', script])).trim().replaceAll(/\s+/g, ' ');

  const look = async (): Promise<void> => {
    assert.equal(await sh('id -u; cat /proc/self/uid_map /proc/sys/kernel/shm_rmid_forced'), `0 0 ${rootId} 65536 1`);
    assert.equal(await sh('cat /volume/secret; stat -c %u /volume/secret /image/bin/sh /bin/sh /etc/hosts /etc/hostname /dev/shm'), 'of root 0 0 0 0 0 0');
    assert.equal(await sh('hostname; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo pong'), 'mapped pong');
  };
  await look();
  await sh('echo mine > /volume/written; chown 5 /volume/written');
  assert.equal((await stat(path.join(volume, 'written'))).uid, 5, 'a volume keeps the ids that the container sees');
  const { info, status } = await crictl.json<{ info: { pid: number }; status: { mounts: { image?: { imageRef: string } }[] } }>(['inspect', container]);
  assert.equal((await stat(`/proc/${info.pid}`)).uid, rootId);
  assert.match(status.mounts[1]?.image?.imageRef ?? '', /^sha256:/);

  await crictl.run(['rmi', tagImage]);
  await node.kill();
  await node.start();
  await look();

  // The kernel lets nobody but its owner mount a sysfs of the host's network.
  const hostFile = await crictl.file('host.json', podConfig(node, 'host', 'host'));
  const host = (await crictl.run(['runp', hostFile])).trim();
  const script = 'cat /proc/self/uid_map; test -d /sys/class/net/lo && touch /sys/x 2>&1 | grep -o Read-only; exec sleep 10000';
  const hostContainer = await crictl.file('host-container.json', {
    metadata: { name: 'h', attempt: 0 }, image: { image: busyboxImage }, command: ['sh', '-c', script], log_path: 'h.log', linux: { security_context: { namespace_options: { network: 2, pid: 0 } } },
  });
  const second = (await crictl.run(['create', host, hostContainer, hostFile])).trim();
  await crictl.run(['start', second]);
  const seen = `0 ${rootId} 65536 Read-only`;
  await eventually('the log of the pod with the host\'s network', async () => (await crictl.run(['logs', second])).trim().replaceAll(/\s+/g, ' '), (log) => log === seen);
  await crictl.run(['rmp', '--force', host]);
  await crictl.run(['stopp', pod]);
  await crictl.run(['rmp', pod]);
}));
