/** A pod's namespaces below a user namespace: who owns them, what is set in them, and directories seen through them. */
import assert from 'node:assert/strict';
import { chown, mkdir, mkdtemp, readdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { findProgram, run } from './exec.ts';
import type { IdMappings } from './id-mapping.ts';
import { idmappedBind } from './idmapped-mount.ts';
import { quietCtx } from './log.ts';
import { mountsBelow } from './mountinfo.ts';
import { unpinNamespaces, warmThreadPool } from './namespaces.ts';
import { removeTree } from './remove-tree.ts';
import { pinUserNamespaces } from './user-namespace.ts';

const ctx = quietCtx();
const mappings: IdMappings = { uids: [{ containerId: 0, hostId: 70_000, size: 1000 }], gids: [{ containerId: 0, hostId: 80_000, size: 1000 }] };

async function scratch(t: TestContext): Promise<string> {
  await warmThreadPool();
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-user-'));
  t.after(() => removeTree(dir));
  return dir;
}

const kinds = ['net', 'ipc', 'uts'] as const;

test('root of the namespace has id 0 inside, owns the network and the ipc, and cannot change the host', async (t) => {
  const dir = join(await scratch(t), 'ns');
  const sysctls = { 'net.ipv4.ip_unprivileged_port_start': '77', 'kernel.shm_rmid_forced': '1', 'fs.mqueue.msg_max': '33' };
  await pinUserNamespaces(ctx, { dir, kinds, hostname: 'pod-u', sysctls, mappings });
  const pins = ['user', ...kinds].map((kind) => `--${kind}=${join(dir, kind)}`);
  const inside = async (script: string): Promise<[string, number]> => {
    const { stdout, exitCode } = await run(ctx, { path: (await findProgram('nsenter')) ?? '', args: [...pins, 'sh', '-c', `exec 2>&1; ${script}`] });
    return [stdout.toString('utf8').trim().replaceAll(/\s+/g, ' '), exitCode];
  };
  assert.deepEqual(await inside('id -u; cat /proc/self/uid_map /proc/self/gid_map; hostname'), ['0 0 70000 1000 0 80000 1000 pod-u', 0]);
  assert.deepEqual(await inside('cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max'), ['77 1 33', 0]);
  assert.deepEqual(await inside('ip link set lo down && ip address add 10.1.1.1/32 dev lo && hostname other'), ['', 0]);
  assert.match((await inside('echo 1 > /proc/sys/kernel/panic'))[0], /Permission denied/);
  unpinNamespaces(dir);
  unpinNamespaces(dir);
  assert.deepEqual(await mountsBelow(dir), []);
});

test('what cannot be made leaves nothing pinned', async (t) => {
  const parent = await scratch(t);
  const cut = { uids: [{ containerId: 0, hostId: 70_000, size: 0 }], gids: mappings.gids };
  await assert.rejects(pinUserNamespaces(ctx, { dir: join(parent, 'ns'), kinds, mappings: cut }), { code: 'EINVAL' });
  await assert.rejects(pinUserNamespaces(ctx, { dir: join(parent, 'ns'), kinds, mappings, sysctls: { 'fs.mqueue.msg_max': 'many' } }), { kind: 'invalid', message: /sysctl fs\.mqueue\.msg_max=many/ });
  assert.deepEqual([await readdir(parent), await mountsBelow(parent)], [[], []]);
});

test('a directory bound through the namespace shows its files with the ids of the namespace', async (t) => {
  const dir = await scratch(t);
  await pinUserNamespaces(ctx, { dir: join(dir, 'ns'), kinds: [], mappings });
  for (const name of ['source', 'target']) await mkdir(join(dir, name));
  await writeFile(join(dir, 'source', 'file'), '');
  await chown(join(dir, 'source', 'file'), 1, 2);
  await idmappedBind({ source: join(dir, 'source'), target: join(dir, 'target'), userNamespace: join(dir, 'ns/user'), readonly: true });
  const { uid, gid } = await stat(join(dir, 'target', 'file'));
  assert.deepEqual([uid, gid], [70_001, 80_002]);
  await assert.rejects(writeFile(join(dir, 'target', 'new'), ''), { code: 'EROFS' });
});
