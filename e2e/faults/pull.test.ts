/** Pulls from registries that stall, break, lie and refuse: each ends with the image or with one clear error, and leaves nothing that the next one minds. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { Misbehaviour } from '../../hack/registry-answer.ts';
import type { Registry } from '../../hack/registry.ts';
import { fileLayer, madeRegistry, type MadeImage } from '../harness/made-images.ts';
import { startNodelet, type Nodelet } from '../harness/nodelet.ts';
import { crictlFor, type Crictl, type Output } from '../harness/shell.ts';
import { needs } from '../harness/tools.ts';

const what = needs('root', 'bundle', 'cri', 'conmon');
const mebibyte = 1024 * 1024;

interface Case {
  readonly behave: Misbehaviour;
  readonly kind: 'manifests' | 'blobs';
  /** Default: always. */
  readonly times?: number;
  /** What crictl says; undefined: the pull succeeds all the same. */
  readonly says?: RegExp;
}
const cases: readonly Case[] = [
  { behave: 'truncate', kind: 'blobs', times: 2 },
  { behave: 'reset', kind: 'blobs', times: 2 },
  { behave: 'reset', kind: 'manifests', times: 1 },
  { behave: 'truncate', kind: 'manifests', times: 1 },
  { behave: 'no-ranges', kind: 'blobs' },
  { behave: 'redirect', kind: 'blobs' },
  { behave: 'redirect', kind: 'manifests' },
  { behave: 'too-many-requests', kind: 'blobs', times: 2 },
  { behave: 'too-many-requests', kind: 'manifests', times: 1 },
  { behave: 'unavailable', kind: 'manifests', times: 2 },
  { behave: 'unavailable', kind: 'manifests', says: /code = Unavailable .*: 503 Service Unavailable \(UNAVAILABLE: try later\)/ },
  { behave: 'wrong-digest', kind: 'blobs', says: /code = InvalidArgument .*wrong digest: expected sha256:[0-9a-f]{64} .*got sha256:[0-9a-f]{64}/ },
  { behave: 'wrong-digest', kind: 'manifests', says: /manifest 1: wrong digest: expected/ },
  { behave: 'too-long', kind: 'blobs', says: /blob sha256:[0-9a-f]+ has [0-9]+ bytes there, [0-9]+ in the manifest/ },
  { behave: 'redirect-loop', kind: 'blobs', says: /redirects more than 10 times/ },
  { behave: 'redirect-loop', kind: 'manifests', says: /redirects more than 10 times/ },
  { behave: 'huge-manifest', kind: 'manifests', says: /the answer is larger than [0-9]+ bytes/ },
  { behave: 'stall', kind: 'blobs', times: 1 },
  { behave: 'silent', kind: 'blobs', says: /code = DeadlineExceeded .*progress timeout: no data for [0-9]+ s \([0-9]+ of [0-9]+ bytes/ },
];
const nameOf = ({ behave, kind, says }: Case): string => `${kind}-${behave}${says === undefined ? '' : '-always'}`;

const imageOf = (name: string, layers = 2): MadeImage =>
  ({ reference: `faults.test/${name}:1`, compression: 'tar', layers: Array.from({ length: layers }, (_, index) => fileLayer(`file-${index}`, randomBytes(mebibyte))) });

let registry: Registry;
let mirror: Registry;
let node: Nodelet;
let crictl: Crictl;
const pull = (name: string): Promise<Output> => crictl.output(['pull', `faults.test/${name}:1`]);

/** What is neither an image nor needed by one: nothing. */
async function assertTidy(): Promise<void> {
  assert.deepEqual(await readdir(path.join(node.root, 'images/ingest')), []);
  assert.deepEqual((await readdir(path.join(node.root, 'layers'))).filter((name) => name.startsWith('.')), []);
}

before(async () => {
  if (what.skip !== false) return;
  const made = [...cases.map((each) => imageOf(nameOf(each))), imageOf('silent'), imageOf('lying'), imageOf('many', 5)];
  const auth = { kind: 'basic', username: 'u', password: 'p' } as const;
  registry = await madeRegistry(made, { auth });
  mirror = await madeRegistry(made, { auth });
  const dir = await mkdtemp(path.join(tmpdir(), 'credentials-'));
  const entry = { auth: Buffer.from('u:p').toString('base64') };
  await writeFile(path.join(dir, 'config.json'), JSON.stringify({ auths: { [registry.address]: entry, [mirror.address]: entry } }));
  node = await startNodelet({ mode: 'cri', writeHosts: registry.writeHosts, config: { images: { progressTimeout: '2s', credentialsFile: path.join(dir, 'config.json') } } });
  crictl = await crictlFor(node.socket);
});
after(async () => {
  await crictl?.[Symbol.asyncDispose]();
  await node?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await mirror?.[Symbol.asyncDispose]();
});

for (const each of cases) {
  const { behave, kind, times, says } = each;
  const how = `a registry that answers for ${kind} with ${behave}${times === undefined ? '' : ` ${times} times`}`;
  test(says === undefined ? `${how} costs no pull` : `${how} is one clear error, and once it is well the pull succeeds`, what, async () => {
    const name = nameOf(each);
    const stop = registry.trouble({ behave, kind, matching: `${name} `, ...(times === undefined ? {} : { times }) });
    const first = await pull(name);
    stop();
    if (says === undefined) assert.equal(first.exitCode, 0, first.stderr);
    else {
      assert.notEqual(first.exitCode, 0);
      assert.match(first.stderr, says);
      assert.doesNotMatch(first.stderr, /dTpw|u:p/, 'no secret in an error');
      const again = await pull(name);
      assert.equal(again.exitCode, 0, again.stderr);
    }
    await assertTidy();
  });
}
test('credentials were sent to the registry only, not to where it redirected', what, () => {
  const redirected = registry.requests.filter(({ path: asked }) => asked.startsWith('/signed'));
  assert.ok(redirected.length >= 2);
  assert.deepEqual(redirected.filter(({ hasCredentials, host }) => hasCredentials || !host.startsWith('localhost:')), []);
});

for (const [name, behave] of [['silent', 'stall'], ['lying', 'wrong-digest']] as const) {
  test(`a mirror that is ${name} is passed over for the registry itself`, what, async () => {
    const hosts = `server = "http://${registry.address}"\n[host."http://${mirror.address}"]\ncapabilities = ["pull", "resolve"]\n`;
    await writeFile(path.join(node.certsDir, 'faults.test/hosts.toml'), hosts);
    const stop = mirror.trouble({ behave, kind: 'blobs', matching: `${name} ` });
    const { exitCode, stderr } = await pull(name);
    stop();
    await registry.writeHosts(node.certsDir);
    assert.equal(exitCode, 0, stderr);
    assert.ok(mirror.requests.some(({ path: asked }) => asked.includes(`/${name}/blobs/`)) && registry.requests.some(({ path: asked }) => asked.includes(`/${name}/blobs/`)));
    await assertTidy();
  });
}

test('many who want the same image at once cause one download of each blob', what, async () => {
  const results = await Promise.all(Array.from({ length: 12 }, () => pull('many')));
  assert.deepEqual(results.filter(({ exitCode }) => exitCode !== 0), []);
  const asked = registry.requests.filter(({ path: blob, status }) => blob.includes('/many/blobs/') && status === 200).map(({ path: blob }) => blob);
  assert.equal(asked.length, new Set(asked).size);
  assert.equal(asked.length, 6);
  await assertTidy();
});
