/** Kubeconfigs as users break them, and as they rotate. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isFault } from '#host/fault.ts';
import { checkKubeconfig, loadKubeconfig } from './kubeconfig.ts';

const good = {
  'current-context': 'c',
  contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
  clusters: [{ name: 'k', cluster: { server: 'https://10.0.0.1:6443' } }],
  users: [{ name: 'u', user: { token: 't' } }],
};

const broken: [string, string, string][] = [
  ['no YAML', 'a: [', 'F: not YAML: Flow sequence in block collection must be sufficiently indented and end with a ] at line 1, column 5:'],
  ['a list', '[]', 'F: not a kubeconfig: a mapping with clusters, users and contexts is expected'],
  ['no current context', JSON.stringify({ ...good, 'current-context': undefined }), 'F: current-context: missing'],
  ['an unknown context', JSON.stringify({ ...good, 'current-context': 'x' }), 'F: current-context: "x" is not among the contexts'],
  ['an unknown user', JSON.stringify({ ...good, users: [] }), 'F: contexts[0].context.user: "u" is not among the users'],
  ['no server', JSON.stringify({ ...good, clusters: [{ name: 'k', cluster: {} }] }), 'F: clusters[0].cluster.server: missing'],
  ['an odd server', JSON.stringify({ ...good, clusters: [{ name: 'k', cluster: { server: 'ftp://x' } }] }), 'F: clusters[0].cluster.server: "ftp://x" is not an http or https address'],
  ['a certificate without key', JSON.stringify({ ...good, users: [{ name: 'u', user: { 'client-certificate': 'x' } }] }), 'F: users[0].user.client-key: missing beside the client-certificate'],
  ['data that is no PEM', JSON.stringify({ ...good, users: [{ name: 'u', user: { 'client-key-data': 'eA==' } }] }), 'F: users[0].user.client-key-data: not a base64 encoded PEM private key'],
  ['an exec plugin without command', JSON.stringify({ ...good, users: [{ name: 'u', user: { exec: {} } }] }), 'F: users[0].user.exec.command: missing'],
];
for (const [name, text, message] of broken) {
  test(`a kubeconfig with ${name} is refused by file and field`, () => {
    assert.throws(() => checkKubeconfig(text, 'F'), (error) => isFault(error, 'invalid') && error.message === message);
  });
}

test('a file named in a kubeconfig must be readable', async () => {
  await using dir = await temporary();
  const file = join(dir.path, 'kc');
  await writeFile(file, JSON.stringify({ ...good, users: [{ name: 'u', user: { tokenFile: 'token' } }] }));
  await assert.rejects(loadKubeconfig(file), (error) => isFault(error, 'invalid') && error.message.startsWith(`${file}: user "u": tokenFile: ENOENT`));
});

test('a token file is found beside the kubeconfig and read again after its token was refused', async () => {
  await using dir = await temporary();
  const file = join(dir.path, 'kc');
  await writeFile(join(dir.path, 'token'), 'first\n');
  await writeFile(file, JSON.stringify({ ...good, users: [{ name: 'u', user: { tokenFile: 'token' } }] }));
  const access = await loadKubeconfig(file);
  assert.equal(access.server.href, 'https://10.0.0.1:6443/');
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer first');
  await writeFile(join(dir.path, 'token'), 'second\n');
  access.forget();
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer second');
});

test('an exec plugin gets the request in its environment and gives the token', async () => {
  await using dir = await temporary();
  const file = join(dir.path, 'kc');
  const script = `#!/bin/sh\ncase "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) ;; *) exit 1;; esac\necho '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"made"}}'\n`;
  await writeFile(join(dir.path, 'plugin'), script, { mode: 0o755 });
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: './plugin' };
  await writeFile(file, JSON.stringify({ ...good, users: [{ name: 'u', user: { exec } }] }));
  const access = await loadKubeconfig(file);
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer made');
});

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'kubeconfig-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
