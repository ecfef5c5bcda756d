/** Containers of a pod with a user namespace of its own, made by the real OCI runtime. */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { ContainerConfig, LinuxContainerConfig, Mount, NamespaceMode } from '#cri-api';
import { createContainer } from './create.ts';
import { footprint, missing, shell, testPod } from './pod.fake.ts';

const skip = await missing();
const rootId = 300_000;

test('root of the container is nobody on the host, owns the files of its image and what it writes, and leaves nothing', { skip }, async () => {
  const before = await footprint();
  {
    await using pod = await testPod({ rootId, imageVolumes: ['/made/volume'] });
    const volume = join(pod.dir, 'volume');
    await mkdir(volume);
    await writeFile(join(pod.dir, 'single'), 'one\n', { mode: 0o600 });
    const ids = [{ containerId: 0, hostId: rootId, length: 65_536 }];
    const mapped = { uidMappings: ids, gidMappings: ids };
    const mounts = [Mount.fromPartial({ containerPath: '/volume', hostPath: volume, ...mapped }), Mount.fromPartial({ containerPath: '/single', hostPath: join(pod.dir, 'single'), readonly: true, ...mapped }), Mount.fromPartial({ containerPath: '/data', readonly: true, image: { image: 'busybox' } })];
    const linux = LinuxContainerConfig.fromPartial({ securityContext: { capabilities: { addCapabilities: ['SYS_ADMIN'] }, namespaceOptions: { pid: NamespaceMode.CONTAINER } } });
    const id = await pod.run(shell('sleep 1000', { mounts, linux }));
    const sh = async (script: string): Promise<string> => Buffer.from((await pod.exec(id, ['/bin/sh', '-c', `exec 2>&1; ${script}`])).stdout).toString('utf8').trim();
    assert.match(await sh('id -u; cat /proc/self/uid_map'), /^0\s+0\s+300000\s+65536$/);
    assert.equal(await sh('ls -nd / /bin/busybox /data/bin/busybox /made/volume /proc/1 | while read a b uid gid rest; do echo $uid:$gid; done | tr "\\n" " "'), '0:0 0:0 0:0 0:0 0:0');
    assert.equal(await sh('echo new > /etc/group && touch /etc/new && mkdir /made/volume/x && mount -t tmpfs none /tmp && hostname mine && echo fine'), 'fine');
    assert.match(await sh('echo 1 > /proc/sys/kernel/panic; echo 0 > /proc/sys/kernel/shmmni && echo fine'), /(denied|Read-only)[^]*fine/);
    assert.match(await sh('echo new > /volume/written; cat /single; echo x > /single'), /one\n.*Read-only/);
    assert.equal((await stat(join(volume, 'written'))).uid, 0);
    const { process: first, bundleDir } = pod.containers.get(id);
    assert.match(await readFile(`/proc/${first?.pid}/status`, 'utf8'), /^Uid:\t300000\t/m);
    assert.deepEqual((await Promise.all(['etc/group', 'etc/new', 'made/volume/x'].map((path) => stat(join(bundleDir, 'upper', path))))).map(({ uid, gid }) => [uid, gid]), Array.from({ length: 3 }, () => [rootId, rootId]));
    assert.equal((await stat(bundleDir)).mode & 0o777, 0o710);
    await pod.stop(id, 0);
    await pod.remove(id);
  }
  assert.deepEqual(await footprint(), before);
});

test("a volume with other mappings than its pod's is refused where the OCI runtime leaves the mapping to us", { skip }, async () => {
  await using pod = await testPod({ rootId });
  const other = [{ containerId: 0, hostId: rootId + 1, length: 65_536 }];
  const without = { ...pod.runtime, features: { ...pod.runtime.features, idmappedMounts: false } };
  const create = createContainer(pod.ctx, { ...pod.createDeps, runtimeOf: () => without }, {
    podSandboxId: pod.sandboxId,
    config: ContainerConfig.fromPartial({ metadata: { name: 'c', attempt: 0 }, image: { image: 'busybox' }, command: ['true'], mounts: [{ containerPath: '/v', hostPath: pod.dir, uidMappings: other, gidMappings: other }] }),
  });
  await assert.rejects(create, { kind: 'invalid', message: /mount \/v: its mappings are not the pod's/ });
});

// Programs that log to /dev/stdout (nginx's image does) open their own pipe once more.
for (const user of [0, 1000]) {
  test(`a process as user ${user} opens its own streams by name, in a container and in an exec`, { skip }, async () => {
    await using pod = await testPod({ rootId });
    const security = LinuxContainerConfig.fromPartial({ securityContext: { runAsUser: { value: BigInt(user) }, namespaceOptions: { pid: NamespaceMode.CONTAINER } } });
    const id = await pod.run(shell('echo out >/dev/stdout; echo err >/dev/stderr; while :; do sleep 0.1; done', { linux: security }));
    const exec = await pod.exec(id, ['/bin/sh', '-c', 'echo out >/dev/stdout; echo err >/dev/stderr']);
    assert.deepEqual([exec.stdout, exec.stderr].map((bytes) => Buffer.from(bytes).toString()), ['out\n', 'err\n']);
    let log = '';
    while (log.split('\n').length < 3) log = await readFile(pod.containers.get(id).logPath ?? '', 'utf8');
    assert.match(log, / stdout F out$/m);
    assert.match(log, / stderr F err$/m);
  });
}
