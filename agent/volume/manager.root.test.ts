/** Volumes on a real machine: mounts, owners, links that want out, and nothing left at the end. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { mountsBelow } from '#host/mountinfo.ts';
import { removeTree } from '#host/remove-tree.ts';
import type { ObjectSource } from '../kube/object-cache.ts';
import type { ConfigMap, Pod, Secret, Volume } from '../kube/types.ts';
import { MountFault, VolumeManager } from './manager.ts';

interface World extends AsyncDisposable {
  readonly dir: string;
  readonly podDir: string;
  readonly manager: VolumeManager;
  readonly configMaps: Map<string, ConfigMap>;
  readonly secrets: Map<string, Secret>;
}

async function world(): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), 'volumes-'));
  const configMaps = new Map<string, ConfigMap>();
  const secrets = new Map<string, Secret>();
  const objects: ObjectSource = {
    configMap: (_ctx, namespace, name) => Promise.resolve(configMaps.get(`${namespace}/${name}`)),
    secret: (_ctx, namespace, name) => Promise.resolve(secrets.get(`${namespace}/${name}`)),
  };
  const tokens = { token: () => Promise.resolve('signed'), forgetPod: () => undefined };
  const placeOf = (): { hostIPs: string[]; podIPs: string[]; allocatable: Record<string, string> } => ({ hostIPs: [], podIPs: [], allocatable: { cpu: '2', memory: '1Gi' } });
  const manager = new VolumeManager({ objects, tokens, placeOf, podDir: (uid) => join(dir, 'pods', uid) });
  return { dir, podDir: join(dir, 'pods', 'u1'), manager, configMaps, secrets, [Symbol.asyncDispose]: () => removeTree(dir) };
}

const podWith = (volumes: Volume[], spec: Partial<NonNullable<Pod['spec']>> = {}): Pod => ({
  metadata: { namespace: 'a', name: 'p', uid: 'u1', labels: { app: 'x' } },
  spec: { containers: [{ name: 'c', volumeMounts: volumes.map(({ name }) => ({ name, mountPath: `/${name}` })) }], volumes, ...spec },
});

const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);

test('every kind of volume is made, survives a second pass, and leaves nothing', async () => {
  await using it = await world();
  it.configMaps.set('a/cm', { data: { key: 'v1' } });
  it.secrets.set('a/s', { data: { pass: Buffer.from('secret').toString('base64') } });
  const pod = podWith([
    { name: 'disk', emptyDir: {} },
    { name: 'ram', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
    { name: 'host', hostPath: { path: join(it.dir, 'made'), type: 'DirectoryOrCreate' } },
    { name: 'cm', configMap: { name: 'cm' } },
    { name: 'sec', secret: { secretName: 's', defaultMode: 0o400 } },
    { name: 'info', downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
    { name: 'all', projected: { sources: [{ serviceAccountToken: { path: 'token' } }, { configMap: { name: 'cm' } }, { secret: { name: 's', items: [{ key: 'pass', path: 'deep/pass' }] } }] } },
  ]);
  const mounted = await it.manager.mount(quietCtx(), pod);
  const at = (name: string): string => mounted.get(name)?.hostPath ?? '';
  assert.equal(await mode(at('disk')), '777');
  assert.equal(await mode(join(it.dir, 'made')), '755');
  assert.equal(await readFile(join(at('cm'), 'key'), 'utf8'), 'v1');
  assert.equal(await mode(join(at('sec'), 'pass')), '400');
  assert.equal(await readFile(join(at('info'), 'labels'), 'utf8'), 'app="x"');
  assert.deepEqual([await readFile(join(at('all'), 'token'), 'utf8'), await readFile(join(at('all'), 'deep/pass'), 'utf8')], ['signed', 'secret']);
  assert.deepEqual([...mounted].filter(([, { readOnly }]) => readOnly).map(([name]) => name).toSorted(), ['all', 'cm', 'info', 'sec']);
  const mounts = await mountsBelow(it.podDir);
  assert.deepEqual(mounts.map(({ mountPoint }) => mountPoint.split('/').at(-1) ?? '').toSorted(), ['all', 'info', 'ram', 'sec'], 'in memory');
  await assert.rejects(writeFile(join(at('ram'), 'big'), Buffer.alloc(2 << 20)), { code: 'ENOSPC' });

  await rm(join(at('ram'), 'big'));
  await writeFile(join(at('disk'), 'mine'), 'kept');
  await chmod(at('disk'), 0o700);
  it.configMaps.set('a/cm', { data: { key: 'v2' } });
  await it.manager.mount(quietCtx(), pod);
  assert.equal(await readFile(join(at('disk'), 'mine'), 'utf8'), 'kept');
  assert.equal(await mode(at('disk')), '700', 'what the pod did to its directory stays');
  assert.equal(await readFile(join(at('cm'), 'key'), 'utf8'), 'v2');
  assert.equal(await readFile(join(at('all'), 'key'), 'utf8'), 'v2');
  assert.equal((await mountsBelow(it.podDir)).length, mounts.length, 'nothing is mounted twice');
  assert.deepEqual(it.manager.usersOf('ConfigMap', 'a', 'cm'), ['u1']);

  await it.manager.unmount(quietCtx(), 'u1');
  await it.manager.unmount(quietCtx(), 'u1');
  assert.deepEqual(await readdir(it.podDir), []);
  assert.deepEqual(await mountsBelow(it.podDir), []);
  assert.equal(await mode(join(it.dir, 'made')), '755', 'the host keeps what is its own');
  assert.deepEqual(it.manager.usersOf('ConfigMap', 'a', 'cm'), []);
});

test('fsGroup owns what is made, files become readable and directories hand the group on', async () => {
  await using it = await world();
  it.secrets.set('a/s', { data: { pass: '' } });
  const pod = podWith([{ name: 'disk', emptyDir: {} }, { name: 'sec', secret: { secretName: 's', defaultMode: 0o400 } }], { securityContext: { fsGroup: 4321 } });
  const mounted = await it.manager.mount(quietCtx(), pod);
  const disk = await stat(mounted.get('disk')?.hostPath ?? '');
  assert.deepEqual([disk.gid, (disk.mode & 0o7777).toString(8)], [4321, '2777']);
  const file = await stat(join(mounted.get('sec')?.hostPath ?? '', 'pass'));
  assert.deepEqual([file.gid, (file.mode & 0o7777).toString(8)], [4321, '440']);
  await it.manager.unmount(quietCtx(), 'u1');
});

test('a token belongs to the one user of its pod', async () => {
  await using it = await world();
  const pod = podWith([{ name: 't', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } }], { securityContext: { runAsUser: 1234 } });
  const mounted = await it.manager.mount(quietCtx(), pod);
  const token = await stat(join(mounted.get('t')?.hostPath ?? '', 'token'));
  assert.deepEqual([token.uid, (token.mode & 0o777).toString(8)], [1234, '600']);
  await it.manager.unmount(quietCtx(), 'u1');
});

test('what cannot be made is named as the kubelet names it, the rest is made, optional things may be absent', async () => {
  await using it = await world();
  await writeFile(join(it.dir, 'file'), '');
  const pod = podWith([
    { name: 'ok', emptyDir: {} },
    { name: 'gone', configMap: { name: 'none' } },
    { name: 'maybe', secret: { secretName: 'none', optional: true } },
    { name: 'odd', hostPath: { path: join(it.dir, 'file'), type: 'Directory' } },
    { name: 'absent', hostPath: { path: join(it.dir, 'no'), type: 'Socket' } },
    { name: 'claim', persistentVolumeClaim: { claimName: 'x' } },
  ]);
  await assert.rejects(it.manager.mount(quietCtx(), pod), (error) => {
    assert.ok(error instanceof MountFault);
    assert.deepEqual(Object.fromEntries(error.failures.map(({ volume, message }) => [volume, message])), {
      gone: 'MountVolume.SetUp failed for volume "gone" : configmap "none" not found',
      odd: `MountVolume.SetUp failed for volume "odd" : hostPath type check failed: ${it.dir}/file is not a directory, it's a File`,
      absent: `MountVolume.SetUp failed for volume "absent" : hostPath type check failed, ${it.dir}/no is not a socket file, unable to determine its type: path "${it.dir}/no" does not exist`,
      claim: 'MountVolume.SetUp failed for volume "claim" : volumes of the kind persistentVolumeClaim are not supported',
    });
    return true;
  });
  assert.equal(await mode(join(it.podDir, 'volumes/kubernetes.io~empty-dir/ok')), '777');
  await it.manager.unmount(quietCtx(), 'u1');
});

test('a volume that no container mounts is left alone', async () => {
  await using it = await world();
  const mounted = await it.manager.mount(quietCtx(), { ...podWith([]), spec: { containers: [{ name: 'c' }], volumes: [{ name: 'gone', configMap: { name: 'none' } }] } });
  assert.equal(mounted.size, 0);
});

test('a subPath is bound to a place of its own, made with the mode of the volume, and made anew for the next container', async () => {
  await using it = await world();
  const volume = join(it.dir, 'volume');
  await mkdir(volume, { mode: 0o770 });
  await chmod(volume, 0o2770);
  const request = { volume: 'v', volumePath: volume, container: 'c', index: 0, path: 'new/deep' };
  const target = await it.manager.subPath(quietCtx(), 'u1', request);
  await writeFile(join(target, 'x'), 'through');
  assert.equal(await readFile(join(volume, 'new/deep/x'), 'utf8'), 'through');
  assert.equal(await mode(join(volume, 'new')), '2770');
  assert.equal(await it.manager.subPath(quietCtx(), 'u1', request), target);
  assert.equal((await mountsBelow(it.podDir)).length, 1);
  const file = await it.manager.subPath(quietCtx(), 'u1', { ...request, index: 1, path: 'new/deep/x' });
  assert.equal(await readFile(file, 'utf8'), 'through');
  await it.manager.unmount(quietCtx(), 'u1');
  assert.equal(await readFile(join(volume, 'new/deep/x'), 'utf8'), 'through', 'the volume keeps its files');
});

for (const [what, link] of [['an absolute link', '/etc'], ['a link upwards', '../..'], ['a link that leaves and comes back', '../volume']] as const) {
  test(`a subPath through ${what} is refused`, async () => {
    await using it = await world();
    const volume = join(it.dir, 'volume');
    await mkdir(volume);
    await symlink(link, join(volume, 'trap'));
    for (const path of ['trap', 'trap/new']) {
      await assert.rejects(it.manager.subPath(quietCtx(), 'u1', { volume: 'v', volumePath: volume, container: 'c', index: 0, path }), (error) => isFault(error, 'invalid') && error.message.includes('is outside of the volume'));
    }
    assert.deepEqual(await mountsBelow(it.podDir), []);
  });
}
