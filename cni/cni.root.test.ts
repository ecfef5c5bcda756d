/** The real plugins in real namespaces: an address, a way to the gateway, a mapped port, and nothing left. Bridges nlcni*, subnets 10.200.21x. */
import assert from 'node:assert/strict';
import { accessSync, globSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { homedir, networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Ctx } from '#host/ctx.ts';
import { findProgram, run, runChecked } from '#host/exec.ts';
import { quietCtx } from '#host/log.ts';
import { inNetworkNamespace, namespacePath, pinNamespaces, unpinNamespaces, warmThreadPool } from '#host/namespaces.ts';
import { Cni, type CniOptions } from './cni.ts';
import { podIps } from './result.ts';

const needed = ['bridge', 'host-local', 'portmap'];
const binDir = [...globSync(join(homedir(), '.cache/nodelet/judges/*/cni')), '/opt/cni/bin', '/usr/lib/cni'].find((dir) => {
  try {
    for (const name of needed) accessSync(join(dir, name));
    return true;
  } catch {
    return false;
  }
});
const skip = binDir === undefined && process.env['CI'] !== 'true' ? `no CNI plugins (${needed.join(', ')}) in ~/.cache/nodelet/judges, /opt/cni/bin or /usr/lib/cni` : false;
const pod = { namespace: 'test', name: 'pod', uid: 'uid' };

interface Bench {
  readonly ctx: Ctx;
  readonly dir: string;
  readonly netnsPath: string;
  readonly cni: Cni;
}

async function bench(t: TestContext, bridge: string, options: Partial<CniOptions>): Promise<Bench> {
  assert.ok(binDir !== undefined, 'the CNI plugins must be there under CI=true');
  await warmThreadPool();
  const dir = await mkdtemp(join(tmpdir(), 'cni-root-'));
  const stop = new AbortController();
  const ctx: Ctx = { ...quietCtx(), signal: stop.signal };
  await mkdir(join(dir, 'net.d'));
  pinNamespaces({ dir: join(dir, 'ns'), kinds: ['net'] });
  t.after(async () => {
    stop.abort();
    unpinNamespaces(join(dir, 'ns'));
    const ip = await findProgram('ip');
    if (ip !== undefined) await run(quietCtx(), { path: ip, args: ['link', 'delete', bridge] });
    await rm(dir, { recursive: true, force: true });
  });
  const cni = new Cni({ confDir: join(dir, 'net.d'), binDirs: [binDir], cacheDir: join(dir, 'cache'), masquerade: false, ...options });
  return { ctx, dir, netnsPath: namespacePath(join(dir, 'ns'), 'net'), cni };
}

/** Addresses that somebody holds, according to host-local. */
const held = async (dir: string): Promise<string[]> => (await readdir(dir).catch(() => [])).filter((name) => /^[\d.]+$|^[0-9a-f:]+$/.test(name));
const hostLinks = (): string[] => Object.keys(networkInterfaces()).filter((name) => name.startsWith('veth')).toSorted();

test('the generated network gives both families, a way to the gateway, and goes away with the namespace gone', { skip }, async (t) => {
  const b = await bench(t, 'nlcni0', { defaultNetwork: { podCidrs: ['10.200.210.0/24', 'fd00:c8:210::/64'], bridge: 'nlcni0' } });
  const linksBefore = hostLinks();
  await b.cni.start(b.ctx);
  assert.equal(b.cni.status().ready, true);
  const attachment = { containerId: 'first', netnsPath: b.netnsPath, ifName: 'eth0', pod };
  const result = await b.cni.add(b.ctx, attachment);
  assert.deepEqual(podIps(result, 'eth0'), ['10.200.210.2', 'fd00:c8:210::2']);
  await b.cni.check(b.ctx, attachment);
  const inside = inNetworkNamespace(b.netnsPath, () => networkInterfaces());
  assert.ok(inside['eth0']?.some((address) => address.cidr === '10.200.210.2/24'));
  assert.deepEqual((await held(join(b.dir, 'cache/networks/nodelet'))).toSorted(), ['10.200.210.2', 'fd00:c8:210::2']);

  const answered = await echoFrom(b.netnsPath, '10.200.210.1');
  assert.equal(answered, '10.200.210.2');

  unpinNamespaces(join(b.dir, 'ns'));
  await b.cni.del(b.ctx, attachment);
  await b.cni.del(b.ctx, attachment);
  assert.deepEqual(await held(join(b.dir, 'cache/networks/nodelet')), []);
  assert.deepEqual(hostLinks(), linksBefore);
});

/** Connects from inside the namespace to a server of ours on the host's side of the bridge; who did it see? */
async function echoFrom(netnsPath: string, hostAddress: string): Promise<string | undefined> {
  const server = createServer((socket) => socket.end(socket.remoteAddress ?? ''));
  await new Promise<void>((resolve) => server.listen(0, hostAddress, resolve));
  const { port } = server.address() as { port: number };
  try {
    const nsenter = await findProgram('nsenter');
    assert.ok(nsenter !== undefined);
    const outcome = await runChecked(quietCtx(), { path: nsenter, args: [`--net=${netnsPath}`, process.execPath, '-e', `require('net').connect(${port}, '${hostAddress}').pipe(process.stdout)`] });
    return outcome.stdout.toString('utf8');
  } finally {
    server.close();
  }
}

test('a mapped port leads to the pod, and its rules go away with it', { skip }, async (t) => {
  const b = await bench(t, 'nlcni1', {});
  const dataDir = join(b.dir, 'addresses');
  const plugins = [
    { type: 'bridge', bridge: 'nlcni1', isGateway: true, hairpinMode: true, ipam: { type: 'host-local', dataDir, ranges: [[{ subnet: '10.200.211.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] } },
    { type: 'portmap', capabilities: { portMappings: true }, snat: true },
  ];
  await writeFile(join(b.dir, 'net.d/10-test.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'nlcni', plugins }));
  await b.cni.start(b.ctx);
  const status = b.cni.status();
  assert.ok(status.ready, status.ready ? '' : status.message);
  assert.equal(status.cniVersion, '1.0.0');
  const rulesBefore = await natRules(b.ctx);
  const attachment = { containerId: 'mapped', netnsPath: b.netnsPath, ifName: 'eth0', pod, portMappings: [{ hostPort: 42_117, containerPort: 8080, protocol: 'tcp' as const, hostIP: '127.0.0.1' }] };
  try {
    const result = await b.cni.add(b.ctx, attachment);
    assert.deepEqual(podIps(result, 'eth0'), ['10.200.211.2']);
    assert.equal(await askPod(b.netnsPath, 42_117), 'hello from the pod');
    assert.notDeepEqual(await natRules(b.ctx), rulesBefore);
    const cached = JSON.parse(await readFile(join(b.dir, 'cache/results/nlcni-mapped-eth0'), 'utf8')) as { kind: string };
    assert.equal(cached.kind, 'cniCacheV1');
  } finally {
    await b.cni.del(b.ctx, attachment);
  }
  assert.deepEqual(await natRules(b.ctx), rulesBefore);
  assert.deepEqual(await held(join(dataDir, 'nlcni')), []);
});

/** What is specific to pods; portmap keeps its (shared, empty) top-level chains for ever. */
async function natRules(ctx: Ctx): Promise<string[]> {
  const save = await findProgram('iptables-save');
  assert.ok(save !== undefined);
  const outcome = await runChecked(ctx, { path: save, args: ['-t', 'nat'] });
  return outcome.stdout.toString('utf8').split('\n').filter((line) => line.includes('42117') || line.includes('CNI-DN-') || line.includes('10.200.211.'));
}

async function askPod(netnsPath: string, hostPort: number): Promise<string> {
  const server = createServer((socket) => socket.end('hello from the pod'));
  // Without a host, listen() opens the socket at once: inside the namespace.
  inNetworkNamespace(netnsPath, () => void server.listen(8080));
  try {
    const socket = connect(hostPort, '127.0.0.1');
    let said = '';
    for await (const chunk of socket) said += String(chunk);
    return said;
  } finally {
    server.close();
  }
}

test('an ADD that fails half-way gives its address back with DEL', { skip }, async (t) => {
  const b = await bench(t, 'nlcni2', {});
  const dataDir = join(b.dir, 'addresses');
  const plugins = [
    { type: 'bridge', bridge: 'nlcni2', ipam: { type: 'host-local', dataDir, ranges: [[{ subnet: '10.200.212.0/24' }]] } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ];
  await writeFile(join(b.dir, 'net.d/10-test.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'nlcni', plugins }));
  await b.cni.start(b.ctx);
  const attachment = { containerId: 'half', netnsPath: b.netnsPath, ifName: 'eth0', pod, portMappings: [{ hostPort: 70_000, containerPort: 8080, protocol: 'tcp' as const }] };
  await assert.rejects(b.cni.add(b.ctx, attachment), /^CniError: plugin type="portmap" failed \(add\): /);
  assert.deepEqual(await held(join(dataDir, 'nlcni')), ['10.200.212.2']);
  await b.cni.del(b.ctx, attachment);
  assert.deepEqual(await held(join(dataDir, 'nlcni')), []);
});

test('the node masquerades its pods once, in a chain of its own that can be taken away', { skip }, async (t) => {
  const chain = 'NLCNI-TEST';
  const b = await bench(t, 'nlcni3', { defaultNetwork: { podCidrs: ['10.200.213.0/24'], bridge: 'nlcni3' }, masquerade: { chain } });
  const iptables = await findProgram('iptables');
  assert.ok(iptables !== undefined);
  const rules = async (): Promise<string[]> => (await runChecked(quietCtx(), { path: iptables, args: ['-w', '-t', 'nat', '-S'] })).stdout.toString('utf8').split('\n').filter((line) => line.includes(chain));
  await b.cni.start(b.ctx);
  const first = await rules();
  assert.equal(first.length, 5, first.join('\n'));
  await b.cni.setPodCidrs(['10.200.214.0/24']);
  const second = await rules();
  assert.deepEqual(second, first.map((line) => line.replaceAll('10.200.213.', '10.200.214.')));
  await writeFile(join(b.dir, 'net.d/10-test.conf'), JSON.stringify({ cniVersion: '1.0.0', name: 'addon', type: 'bridge', bridge: 'nlcni3' }));
  await b.cni.refresh(b.ctx);
  assert.deepEqual(await rules(), []);
});
