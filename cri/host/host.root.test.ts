/** The parts of the host that need root: namespaces, mounts, safe paths, removal. */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { hostname, networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { findProgram, runChecked } from './exec.ts';
import { quietCtx } from './log.ts';
import { bind, mount, overlayMount, unmount } from './mount.ts';
import { mountsBelow } from './mountinfo.ts';
import { inNetworkNamespace, namespacePath, pinNamespaces, unpinNamespaces, warmThreadPool } from './namespaces.ts';
import { removeTree } from './remove-tree.ts';
import { openBeneath, openInRoot, resolveInRoot } from './safe-path.ts';

async function scratch(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-host-'));
  t.after(async () => {
    await removeTree(dir);
    assert.deepEqual(await mountsBelow(dir), []);
  });
  return dir;
}

test("a pod's namespaces are pinned with lo up, host name and sysctls set, and the host keeps its own", async (t) => {
  const dir = join(await scratch(t), 'ns');
  await warmThreadPool();
  const before = [hostname(), Object.keys(networkInterfaces()).toSorted()];
  pinNamespaces({ dir, kinds: ['net', 'ipc', 'uts'], hostname: 'pod-x', sysctls: { 'net.ipv4.ip_unprivileged_port_start': '77', 'kernel.shm_rmid_forced': '1' } });
  const script = 'hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced';
  const args = ['net', 'ipc', 'uts'].map((kind) => `--${kind}=${join(dir, kind)}`);
  const inside = await runChecked(quietCtx(), { path: (await findProgram('nsenter')) ?? '', args: [...args, 'sh', '-c', script] });
  assert.equal(String(inside.stdout), 'pod-x\n77\n1\n');
  assert.deepEqual(inNetworkNamespace(namespacePath(dir, 'net'), () => Object.keys(networkInterfaces())), ['lo']);
  assert.deepEqual([hostname(), Object.keys(networkInterfaces()).toSorted()], before);
  unpinNamespaces(dir);
  unpinNamespaces(dir);
});

test('a sysctl that the kernel refuses leaves nothing pinned', async (t) => {
  const parent = await scratch(t);
  await warmThreadPool();
  assert.throws(() => pinNamespaces({ dir: join(parent, 'ns'), kinds: ['net'], sysctls: { 'net.ipv4.no_such': '1' } }), { kind: 'invalid', message: /sysctl net\.ipv4\.no_such=1: this kernel does not have it/ });
  assert.throws(() => pinNamespaces({ dir: join(parent, 'ns'), kinds: ['ipc'], sysctls: { 'kernel.shmmni': 'many' } }), { kind: 'invalid', message: /kernel\.shmmni=many: the kernel refuses it/ });
  assert.deepEqual([await readdir(parent), await mountsBelow(parent)], [[], []]);
});

test('a read-only bind is read-only, and unmounting twice is fine', async (t) => {
  const dir = await scratch(t);
  await mkdir(join(dir, 'a'));
  await mkdir(join(dir, 'b'));
  await bind({ source: join(dir, 'a'), target: join(dir, 'b'), readonly: true });
  await assert.rejects(writeFile(join(dir, 'b', 'f'), ''), { code: 'EROFS' });
  await unmount(join(dir, 'b'));
  await unmount(join(dir, 'b'));
  await writeFile(join(dir, 'b', 'f'), '');
});

test('an overlay of many layers shows the topmost file of each name', async (t) => {
  const dir = await scratch(t);
  const layers = Array.from({ length: 60 }, (_, i) => join(dir, `l${i}`));
  for (const [i, layer] of layers.entries()) {
    await mkdir(layer);
    await writeFile(join(layer, 'name'), String(i));
  }
  for (const name of ['upper', 'work', 'merged']) await mkdir(join(dir, name));
  await overlayMount({ target: join(dir, 'merged'), lower: layers, upper: join(dir, 'upper'), work: join(dir, 'work') });
  assert.equal(await readFile(join(dir, 'merged', 'name'), 'utf8'), '0');
});

test('removing a tree takes its mounts away first and leaves what was mounted', async (t) => {
  const dir = await scratch(t);
  await mkdir(join(dir, 'kept'));
  await writeFile(join(dir, 'kept', 'f'), 'x');
  await mkdir(join(dir, 'tree', 'deep', 'm'), { recursive: true });
  await bind({ source: join(dir, 'kept'), target: join(dir, 'tree', 'deep', 'm') });
  await mount({ type: 'tmpfs', target: join(dir, 'tree', 'deep'), options: ['nosuid'] });
  await removeTree(join(dir, 'tree'));
  await removeTree(join(dir, 'tree'));
  assert.equal(await readFile(join(dir, 'kept', 'f'), 'utf8'), 'x');
  assert.deepEqual(await readdir(dir), ['kept']);
});

test('a path from outside stays beneath its root, whatever its links say', async (t) => {
  const dir = await scratch(t);
  await mkdir(join(dir, 'root', 'etc'), { recursive: true });
  await writeFile(join(dir, 'root', 'etc', 'passwd'), 'inside');
  await writeFile(join(dir, 'passwd'), 'outside');
  await symlink('/etc', join(dir, 'root', 'abs'));
  await symlink('../../passwd', join(dir, 'root', 'etc', 'up'));
  const root = openSync(join(dir, 'root'), constants.O_DIRECTORY);
  try {
    const fd = openInRoot(root, '/abs/passwd', constants.O_RDONLY);
    assert.equal(await readFile(`/proc/self/fd/${fd}`, 'utf8'), 'inside');
    closeSync(fd);
    assert.equal(await resolveInRoot(join(dir, 'root'), '/abs/../abs/passwd'), join(dir, 'root', 'etc', 'passwd'));
    for (const path of ['etc/up', '../passwd', 'abs/passwd']) assert.throws(() => openBeneath(root, path, constants.O_RDONLY), { kind: 'invalid' });
  } finally {
    closeSync(root);
  }
  await rm(join(dir, 'passwd'));
});
