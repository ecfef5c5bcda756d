/** The whole of cni/ with plugins that are shell scripts: order, chaining, cache, reload, and what a bad plugin does to us. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { withTimeout, type Ctx } from '#host/ctx.ts';
import { isFault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { Cni, type CniOptions } from './cni.ts';
import { CniError } from './errors.ts';

const pod = { namespace: 'ns', name: 'web', uid: 'u' };
const attachment = { containerId: 'c1', netnsPath: '/proc/self/ns/net', ifName: 'eth0', pod };
const versions = 'if [ $CNI_COMMAND = VERSION ]; then echo \'{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}\'; exit 0; fi';
/** Notes each call and its stdin beside itself, and hands its own name on as a route. */
const recorder = `#!/bin/sh
${versions}
me=\${0##*/}; dir=\${0%/*}/..
echo "$CNI_COMMAND $me $CNI_CONTAINERID netns=$CNI_NETNS" >>$dir/calls
cat >$dir/stdin.$me.$CNI_COMMAND
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.200.9.2/24","interface":0}],"by":"'$me'"}'
exit 0
`;

interface Bench {
  readonly ctx: Ctx;
  readonly dir: string;
  readonly cni: Cni;
  plugin(name: string, script: string): Promise<void>;
  conf(file: string, text: string | object): Promise<void>;
  calls(): Promise<string[]>;
  stdin(name: string): Promise<Record<string, unknown>>;
}

async function bench(t: TestContext, options: Partial<CniOptions> = {}): Promise<Bench> {
  const dir = await mkdtemp(join(tmpdir(), 'cni-'));
  const stop = new AbortController();
  const ctx: Ctx = { ...quietCtx(), signal: stop.signal };
  t.after(async () => {
    stop.abort();
    await rm(dir, { recursive: true, force: true });
  });
  await mkdir(join(dir, 'bin'));
  await mkdir(join(dir, 'net.d'));
  const plugin = async (name: string, script: string): Promise<void> => {
    await writeFile(join(dir, 'bin', name), script);
    await chmod(join(dir, 'bin', name), 0o755);
  };
  await plugin('first', recorder);
  await plugin('second', recorder);
  return {
    ctx,
    dir,
    cni: new Cni({ confDir: join(dir, 'net.d'), binDirs: [join(dir, 'bin')], cacheDir: join(dir, 'cache'), masquerade: false, ...options }),
    plugin,
    conf: (file, text) => writeFile(join(dir, 'net.d', file), typeof text === 'string' ? text : JSON.stringify(text)),
    calls: async () => (await readFile(join(dir, 'calls'), 'utf8').catch(() => '')).split('\n').filter((line) => line !== ''),
    stdin: async (name) => JSON.parse(await readFile(join(dir, `stdin.${name}`), 'utf8')) as Record<string, unknown>,
  };
}

const network = (...types: string[]): Record<string, unknown> => ({ cniVersion: '1.0.0', name: 'net', plugins: types.map((type) => ({ type, capabilities: { portMappings: true } })) });
const tail = (calls: readonly string[]): string[] => calls.map((call) => call.split(' ').slice(0, 2).join(' '));

test('ADD goes forward with the previous result, DEL backward with the last one, from the cache alone', async (t) => {
  const b = await bench(t);
  await b.conf('10.conflist', network('first', 'second'));
  await b.cni.start(b.ctx);
  const result = await b.cni.add(b.ctx, { ...attachment, portMappings: [{ hostPort: 1, containerPort: 2, protocol: 'tcp' }] });
  assert.deepEqual(result.ips, [{ address: '10.200.9.2/24', interface: 0 }]);
  assert.equal(((await b.stdin('second.ADD'))['prevResult'] as { by: string }).by, 'first');
  assert.equal((await b.stdin('first.ADD'))['prevResult'], undefined);
  assert.deepEqual(await readdir(join(b.dir, 'cache', 'results')), ['net-c1-eth0']);
  await rm(join(b.dir, 'net.d'), { recursive: true });
  const later = new Cni({ confDir: join(b.dir, 'net.d'), binDirs: [join(b.dir, 'bin')], cacheDir: join(b.dir, 'cache'), masquerade: false });
  assert.deepEqual((await later.resultOf(b.ctx, attachment))?.ips, result.ips);
  await later.del(b.ctx, { containerId: 'c1', ifName: 'eth0', netnsPath: join(b.dir, 'gone') });
  assert.deepEqual(await b.calls(), ['ADD first c1 netns=/proc/self/ns/net', 'ADD second c1 netns=/proc/self/ns/net', 'DEL second c1 netns=', 'DEL first c1 netns=']);
  const undone = await b.stdin('first.DEL');
  assert.equal((undone['prevResult'] as { by: string }).by, 'second');
  assert.deepEqual(undone['runtimeConfig'], { portMappings: [{ hostPort: 1, containerPort: 2, protocol: 'tcp' }] });
  assert.deepEqual(await readdir(join(b.dir, 'cache', 'results')), []);
  await later.del(b.ctx, attachment);
  assert.equal((await b.calls()).length, 4);
});

const badPlugins: readonly [string, string, Partial<CniError>][] = [
  [
    'an error in CNI form',
    '#!/bin/sh\necho \'{"code":11,"msg":"no free address","details":"pool of 3"}\'; echo trace >&2; exit 1',
    { message: 'plugin type="bad" failed (add): no free address; pool of 3; trace', code: 11, kind: 'unavailable', stderr: 'trace' },
  ],
  ['an error on stderr only', '#!/bin/sh\necho "no such device" >&2; exit 3', { message: 'plugin type="bad" failed (add): exit status 3 without an error in CNI form; no such device', kind: 'internal' }],
  ['a crash', '#!/bin/sh\nkill -SEGV $$', { message: 'plugin type="bad" failed (add): it was ended by signal 11' }],
  ['garbage instead of a result', '#!/bin/sh\necho hello', { message: 'plugin type="bad" failed (add): it printed no JSON but "hello"' }],
  ['endless output', '#!/bin/sh\nhead -c 3000000 /dev/zero', { message: 'plugin type="bad" failed (add): it printed more than 1048576 bytes' }],
  [
    'an unknown version',
    `#!/bin/sh\n${versions}\necho '{"code":1,"msg":"incompatible CNI versions"}'; exit 1`,
    { message: 'plugin type="bad" failed (add): incompatible CNI versions; it speaks 0.4.0, 1.0.0, 1.1.0', code: 1 },
  ],
];
for (const [name, script, want] of badPlugins) {
  test(`${name} is told with the plugin's name, and what was begun can be undone`, async (t) => {
    const b = await bench(t);
    await b.plugin('bad', script);
    await b.conf('10.conflist', network('first', 'bad'));
    await b.cni.start(b.ctx);
    await assert.rejects(b.cni.add(b.ctx, attachment), (error: unknown) => {
      assert.ok(error instanceof CniError);
      for (const [field, value] of Object.entries(want)) assert.equal(error[field as keyof CniError], value);
      return true;
    });
    await b.plugin('bad', recorder);
    await b.cni.del(b.ctx, attachment);
    assert.deepEqual(tail(await b.calls()), ['ADD first', 'DEL bad', 'DEL first']);
  });
}

test('a plugin that hangs is killed with its children at the deadline, and named', async (t) => {
  const b = await bench(t);
  await b.plugin('slow', `#!/bin/sh\n${versions}\necho $$ >\${0%/*}/../pid\nsleep 300\nexit 0`);
  await b.conf('10.conflist', network('slow'));
  await b.cni.start(b.ctx);
  await assert.rejects(b.cni.add(withTimeout(b.ctx, 300), attachment), (error: unknown) => isFault(error, 'timeout') && error.message === 'plugin type="slow" failed (add): did not finish in time and was killed');
  const pid = Number(await readFile(join(b.dir, 'pid'), 'utf8'));
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test('a missing plugin makes the network not ready and names the directories; DEL keeps the attachment for a later try', async (t) => {
  const b = await bench(t);
  await b.conf('10.conflist', network('first'));
  await b.cni.start(b.ctx);
  await b.cni.add(b.ctx, attachment);
  await rm(join(b.dir, 'bin', 'first'));
  const want = `not found in ${join(b.dir, 'bin')}`;
  await assert.rejects(b.cni.del(b.ctx, attachment), { message: `plugin type="first" failed (delete): ${want}` });
  await b.conf('10.conflist', network('first', 'second'));
  await b.cni.refresh(b.ctx);
  assert.deepEqual(b.cni.status(), { ready: false, message: `Network plugin returns error: plugin type="first" failed (version): ${want}` });
  await b.plugin('first', recorder);
  await b.cni.refresh(b.ctx);
  assert.equal(b.cni.status().ready, true);
  await b.cni.del(b.ctx, attachment);
  assert.deepEqual(await readdir(join(b.dir, 'cache', 'results')), []);
});

test('the first valid file in the order of names holds; a broken one before it is skipped and told', async (t) => {
  const b = await bench(t);
  const broken = join(b.dir, 'net.d', '05-broken.conflist');
  await b.conf('05-broken.conflist', '{');
  await b.cni.start(b.ctx);
  const before = b.cni.status();
  assert.ok(!before.ready && before.message.startsWith(`Network plugin returns error: cni plugin not initialized: ${broken}: not JSON: `));
  await assert.rejects(b.cni.add(b.ctx, attachment), (error: unknown) => isFault(error, 'unavailable') && error.message.includes(broken));
  await b.conf('20.conf', { cniVersion: '0.4.0', name: 'later', type: 'second' });
  await b.conf('10.conflist', network('first'));
  await b.cni.refresh(b.ctx);
  const status = b.cni.status();
  assert.ok(status.ready);
  assert.equal(status.source, join(b.dir, 'net.d', '10.conflist'));
});

test('a new file in the directory is noticed by itself', async (t) => {
  const b = await bench(t);
  await b.cni.start(b.ctx);
  assert.deepEqual(b.cni.status(), { ready: false, message: `Network plugin returns error: cni plugin not initialized: no network configuration in ${join(b.dir, 'net.d')}` });
  await b.conf('10.conflist', network('first'));
  const deadline = performance.now() + 10_000;
  while (!b.cni.status().ready && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(b.cni.status().ready, true);
});

test('the newest version that all plugins speak is spoken', async (t) => {
  const b = await bench(t);
  await b.plugin('old', recorder.replace('"0.4.0","1.0.0","1.1.0"', '"0.3.1","0.4.0"'));
  await b.conf('10.conflist', { ...network('first', 'old'), cniVersions: ['0.4.0', '1.1.0'] });
  await b.cni.start(b.ctx);
  await b.cni.add(b.ctx, attachment);
  assert.equal((await b.stdin('old.ADD'))['cniVersion'], '0.4.0');
  await b.cni.del(b.ctx, attachment);
  assert.equal((await b.stdin('old.DEL'))['cniVersion'], '0.4.0');
  await b.conf('10.conflist', network('first', 'old'));
  await b.cni.refresh(b.ctx);
  assert.deepEqual(b.cni.status(), { ready: false, message: `Network plugin returns error: ${join(b.dir, 'net.d', '10.conflist')}: cniVersion: 1.0.0: plugin old speaks 0.3.1, 0.4.0` });
});

test('STATUS of a 1.1 plugin decides whether the network is ready', async (t) => {
  const b = await bench(t);
  await b.plugin('moody', `#!/bin/sh\n${versions}\n[ $CNI_COMMAND = STATUS ] && [ -e \${0%/*}/../down ] && { echo '{"code":50,"msg":"controller unreachable"}'; exit 1; }\nexit 0`);
  await b.conf('10.conflist', { ...network('moody'), cniVersion: '1.1.0' });
  await writeFile(join(b.dir, 'down'), '');
  await b.cni.start(b.ctx);
  assert.deepEqual(b.cni.status(), { ready: false, message: 'Network plugin returns error: plugin type="moody" failed (status): controller unreachable' });
  await rm(join(b.dir, 'down'));
  await b.cni.refresh(b.ctx);
  assert.equal(b.cni.status().ready, true);
});

test('collection detaches what nobody owns and tells 1.1 plugins what is valid, unless disableGC', async (t) => {
  const b = await bench(t);
  await b.conf('10.conflist', { ...network('first'), cniVersion: '1.1.0' });
  await b.cni.start(b.ctx);
  await b.cni.add(b.ctx, attachment);
  await b.cni.add(b.ctx, { ...attachment, containerId: 'c2' });
  await b.cni.gc(b.ctx, () => [{ containerId: 'c1', ifName: 'eth0' }]);
  assert.deepEqual((await b.calls()).filter((call) => !/^(ADD|STATUS)/.test(call)), ['DEL first c2 netns=/proc/self/ns/net', 'GC first  netns=']);
  assert.deepEqual((await b.stdin('first.GC'))['cni.dev/valid-attachments'], [{ containerID: 'c1', ifname: 'eth0' }]);
  await b.conf('10.conflist', { ...network('first'), cniVersion: '1.1.0', disableGC: true });
  await b.cni.refresh(b.ctx);
  await b.cni.gc(b.ctx, () => []);
  assert.deepEqual((await b.calls()).filter((call) => /^(DEL|GC)/.test(call)).slice(2), ['DEL first c1 netns=/proc/self/ns/net']);
});

test('CHECK gets the remembered result, and nothing when the file disables it', async (t) => {
  const b = await bench(t);
  await b.conf('10.conflist', network('first'));
  await b.cni.start(b.ctx);
  await assert.rejects(b.cni.check(b.ctx, attachment), (error: unknown) => isFault(error, 'not-found'));
  await b.cni.add(b.ctx, attachment);
  await b.cni.check(b.ctx, attachment);
  assert.equal(((await b.stdin('first.CHECK'))['prevResult'] as { by: string }).by, 'first');
  await b.conf('10.conflist', { ...network('first'), disableCheck: true });
  await b.cni.refresh(b.ctx);
  await b.cni.add(b.ctx, { ...attachment, containerId: 'c2' });
  await b.cni.check(b.ctx, { containerId: 'c2', ifName: 'eth0' });
  assert.deepEqual(tail(await b.calls()), ['ADD first', 'CHECK first', 'ADD first']);
});

test('pod CIDRs make a network until a file appears, and are remembered over a restart', async (t) => {
  const b = await bench(t);
  await b.plugin('bridge', recorder);
  await b.cni.start(b.ctx);
  await assert.rejects(b.cni.setPodCidrs(['10.200.9.0']), (error: unknown) => isFault(error, 'invalid'));
  await b.cni.setPodCidrs(['10.200.9.0/24']);
  const generated = b.cni.status();
  assert.ok(generated.ready);
  assert.equal(generated.source, 'generated from the pod CIDRs');
  const restarted = new Cni({ confDir: join(b.dir, 'net.d'), binDirs: [join(b.dir, 'bin')], cacheDir: join(b.dir, 'cache'), masquerade: false });
  await restarted.start(b.ctx);
  await restarted.add(b.ctx, attachment);
  assert.equal(((await b.stdin('bridge.ADD'))['ipam'] as { ranges: unknown }).ranges !== undefined, true);
  await b.conf('10.conflist', network('first'));
  await restarted.refresh(b.ctx);
  const taken = restarted.status();
  assert.ok(taken.ready && taken.source.endsWith('10.conflist'));
  await restarted.del(b.ctx, attachment);
  assert.deepEqual(tail(await b.calls()), ['ADD bridge', 'DEL bridge']);
  assert.deepEqual(await readdir(join(b.dir, 'net.d')), ['10.conflist']);
});
