/** Credentials for the whole node: which entry is for which repository, and what is refused without showing it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { quietCtx } from '#host/log.ts';
import { explain } from '#host/fault.ts';
import { parseReference } from './reference.ts';
import { credentialsFor, parseCredentials, readCredentials } from './registry-credentials.ts';
import { FakeRegistry } from './registry.fake.ts';
import { Registry } from './registry.ts';

const entry = (user: string): object => ({ auth: Buffer.from(`${user}:secret`).toString('base64') });
const file = JSON.stringify({
  credsStore: 'desktop',
  auths: {
    'https://index.docker.io/v1/': entry('hub'), 'quay.io': entry('quay'), 'quay.io/team': entry('team'), 'https://quay.io/team/app': entry('app'),
    '*.example.com': entry('star'), 'r.example.com:5000': { username: 'port', password: 'p' }, 'ghcr.io': { identitytoken: 'idt' }, 'empty.io': {},
  },
});
const cases: readonly (readonly [host: string, repository: string, want: string | undefined])[] = [
  ['docker.io', 'library/busybox', 'hub'],
  ['quay.io', 'other/app', 'quay'],
  ['quay.io', 'team', 'team'],
  ['quay.io', 'team/x', 'team'],
  ['quay.io', 'teams/x', 'quay'],
  ['quay.io', 'team/app/x', 'app'],
  ['a.example.com', 'x', 'star'],
  ['a.b.example.com', 'x', undefined],
  ['example.com', 'x', undefined],
  ['axexample.com', 'x', undefined],
  ['r.example.com:5000', 'x', 'port'],
  ['ghcr.io', 'x', 'identity-token'],
  ['empty.io', 'x', 'anonymous'],
  ['gcr.io', 'x', undefined],
];
for (const [host, repository, want] of cases) {
  test(`${host}/${repository} is asked for as ${want ?? 'nobody in particular'}`, () => {
    const found = credentialsFor(parseCredentials(file, 'f'), host, repository);
    assert.equal(found?.kind === 'password' ? found.username : found?.kind, want);
  });
}
for (const [text, why] of [['{"auths": {"x": {"auth": "c2VjcmV0"}}}', /f: auths\["x"\]\.auth is not base64/], ['secret', /f: is not JSON$/], ['[]', /f: is not a JSON object/], ['{"auths": []}', /auths is not/], ['{"auths": {"x": "secret"}}', /auths\["x"\] is not/]] as const) {
  test(`${text} is refused, and shows no secret`, () => {
    assert.throws(() => parseCredentials(text, 'f'), (error) => why.test(explain(error)) && !/secret|c2VjcmV0/.test(explain(error)));
  });
}

test("the node's credentials are read at each pull, give way to the pull's own, and stay with the host that they name", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-credentials-'));
  await using server = await FakeRegistry.start();
  const registry = new Registry({ certsDir: dir, credentialsFile: join(dir, 'node.json') });
  try {
    server.addImage('team/app', ['1'], []);
    const seen: (string | undefined)[] = [];
    server.handler = (request, response) => {
      seen.push(request.headers.authorization);
      if (request.headers.authorization !== undefined) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="R"' }).end();
      return true;
    };
    const ask = async (username = ''): Promise<unknown> => {
      const auth = { username, password: 'p', auth: '', serverAddress: '', identityToken: '', registryToken: '' };
      return (await registry.session({ reference: parseReference(`${server.host}/team/app:1`), auth })).resolve(quietCtx(), []);
    };
    await assert.rejects(ask(), /401/);
    await writeFile(join(dir, 'node.json'), JSON.stringify({ auths: { 'other.io': entry('other'), [server.host]: entry('node') } }));
    await ask();
    await ask('pull');
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
    assert.deepEqual(seen, [undefined, undefined, basic('node:secret'), undefined, basic('pull:p')]);
    await writeFile(join(dir, 'node.json'), '{');
    await assert.rejects(ask(), /node\.json: is not JSON/);
    await rm(join(dir, 'node.json'));
    assert.equal((await readCredentials(join(dir, 'node.json'))).size, 0);
  } finally {
    registry.close();
    await rm(dir, { recursive: true });
  }
});
