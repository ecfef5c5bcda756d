/** Challenges, credentials of the CRI, and the token dance with a real http server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuthConfig } from '#cri-api';
import { quietCtx } from '#host/log.ts';
import { parseReference } from './reference.ts';
import { credentialsOf } from './registry-auth.ts';
import { parseChallenges } from './registry-challenge.ts';
import { FakeRegistry } from './registry.fake.ts';
import { Registry } from './registry.ts';

const ctx = quietCtx();
const auth = (fields: Partial<AuthConfig>): AuthConfig => ({ username: '', password: '', auth: '', serverAddress: '', identityToken: '', registryToken: '', ...fields });

const challenges: readonly (readonly [header: string, want: unknown])[] = [
  ['Basic realm="R"', [{ scheme: 'basic', parameters: { realm: 'R' } }]],
  [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
    [{ scheme: 'bearer', parameters: { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:a/b:pull,push' } }],
  ],
  ['Bearer realm=x , Basic realm="a \\"quoted\\" b"', [{ scheme: 'bearer', parameters: { realm: 'x' } }, { scheme: 'basic', parameters: { realm: 'a "quoted" b' } }]],
  ['Negotiate abc==, Basic realm="R"', [{ scheme: 'negotiate', parameters: {} }, { scheme: 'basic', parameters: { realm: 'R' } }]],
  ['Negotiate', [{ scheme: 'negotiate', parameters: {} }]],
  ['BEARER Realm = "x"', [{ scheme: 'bearer', parameters: { realm: 'x' } }]],
  ['"""', []],
  ['', []],
];
for (const [header, want] of challenges) test(`the challenge ${JSON.stringify(header)} is understood`, () => assert.deepEqual(parseChallenges(header), want));
test('no challenge makes the parser hang', () => {
  for (const header of [',,,,', '= = =', 'a="', 'a=b=c', '\u0000\u0001', 'Bearer '.repeat(1000)]) parseChallenges(header);
});

const credentials: readonly (readonly [name: string, auth: AuthConfig | undefined, want: unknown])[] = [
  ['none', undefined, { kind: 'anonymous' }],
  ['an empty one', auth({}), { kind: 'anonymous' }],
  ['name and password', auth({ username: 'u', password: 'p:q' }), { kind: 'password', username: 'u', password: 'p:q' }],
  ['base64 with a NUL at the end', auth({ auth: Buffer.from('u:p:q\0').toString('base64') }), { kind: 'password', username: 'u', password: 'p:q' }],
  ['an identity token', auth({ identityToken: 't' }), { kind: 'identity-token', token: 't' }],
  ['a registry token', auth({ registryToken: 't' }), { kind: 'registry-token', token: 't' }],
  ['those for another registry', auth({ username: 'u', serverAddress: 'https://quay.io' }), { kind: 'anonymous' }],
  ["docker's own address", auth({ username: 'u', serverAddress: 'https://index.docker.io/v1/' }), { kind: 'password', username: 'u', password: '' }],
];
for (const [name, given, want] of credentials) test(`credentials: ${name}`, () => assert.deepEqual(credentialsOf(given, 'docker.io'), want));
test('an auth that is not base64 of user:password is refused without showing it', () => {
  assert.throws(() => credentialsOf(auth({ auth: Buffer.from('secret').toString('base64') }), 'docker.io'), /credentials are damaged: auth is not base64/);
});

/** A registry that wants a token of its own token server, which wants a password or a refresh token. */
async function guarded(): Promise<FakeRegistry & { tokens: string[] }> {
  const registry = (await FakeRegistry.start()) as FakeRegistry & { tokens: string[] };
  registry.tokens = [];
  registry.addImage('team/app', ['1'], []);
  registry.handler = (request, response) => {
    const url = new URL(request.url ?? '', `http://${registry.host}`);
    if (url.pathname === '/token') {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        registry.tokens.push(`${request.method} ${url.search} ${body} ${request.headers.authorization ?? ''}`.trim());
        const isKnown = request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}` || body.includes('refresh_token=idt');
        response.writeHead(isKnown ? 200 : 401).end(isKnown ? JSON.stringify({ access_token: `t${registry.tokens.length}`, expires_in: 300 }) : '');
      });
      return true;
    }
    if (/^Bearer t[0-9]+$/.test(request.headers.authorization ?? '')) return false;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${registry.host}/token",service="svc",scope="repository:team/app:pull"` }).end();
    return true;
  };
  return registry;
}
const resolve = async (registry: Registry, host: string, given: AuthConfig | undefined): Promise<string> =>
  (await (await registry.session({ reference: parseReference(`${host}/team/app:1`), auth: given })).resolve(ctx, [])).digest;

test('a token is fetched once with the password, and used again', async () => {
  await using server = await guarded();
  const registry = new Registry({ certsDir: '/nowhere' });
  await Promise.all([resolve(registry, server.host, auth({ username: 'u', password: 'p' })), resolve(registry, server.host, auth({ username: 'u', password: 'p' }))]);
  await resolve(registry, server.host, auth({ username: 'u', password: 'p' }));
  assert.deepEqual(server.tokens, ['GET ?service=svc&scope=repository%3Ateam%2Fapp%3Apull  Basic dTpw']);
  registry.close();
});
test('an identity token is exchanged by POST', async () => {
  await using server = await guarded();
  const registry = new Registry({ certsDir: '/nowhere' });
  await resolve(registry, server.host, auth({ identityToken: 'idt' }));
  assert.match(server.tokens[0] ?? '', /^POST .*grant_type=refresh_token&refresh_token=idt&client_id=nodelet/);
  registry.close();
});
test('a token that the registry does not take any more is fetched anew', async () => {
  await using server = await guarded();
  const registry = new Registry({ certsDir: '/nowhere' });
  await resolve(registry, server.host, auth({ username: 'u', password: 'p' }));
  const inner = server.handler;
  server.handler = (request, response) => {
    if (request.headers.authorization === 'Bearer t1') request.headers.authorization = 'Bearer old';
    return inner(request, response);
  };
  await resolve(registry, server.host, auth({ username: 'u', password: 'p' }));
  assert.equal(server.tokens.length, 2);
  registry.close();
});
test('a wrong password is one clear refusal, and the next one is not answered with its token', async () => {
  await using server = await guarded();
  const registry = new Registry({ certsDir: '/nowhere' });
  await resolve(registry, server.host, auth({ username: 'u', password: 'p' }));
  await assert.rejects(resolve(registry, server.host, auth({ username: 'u', password: 'wrong' })), (error: Error & { kind?: string }) => {
    assert.equal(error.kind, 'unauthorized');
    assert.match(error.message, /^127\.0\.0\.1:[0-9]+: token server http:\/\/127\.0\.0\.1:[0-9]+: 401 Unauthorized \(the repository does not exist, or needs other credentials\)$/);
    return true;
  });
  registry.close();
});
test('basic authentication is answered only when it is asked for', async () => {
  await using server = await FakeRegistry.start();
  server.addImage('team/app', ['1'], []);
  server.handler = (request, response) => {
    if (request.headers.authorization === 'Basic dTpw') return false;
    assert.equal(request.headers.authorization, undefined);
    response.writeHead(401, { 'www-authenticate': 'Basic realm="R"' }).end();
    return true;
  };
  const registry = new Registry({ certsDir: '/nowhere' });
  await resolve(registry, server.host, auth({ username: 'u', password: 'p' }));
  await assert.rejects(resolve(registry, server.host, undefined), /401 Unauthorized/);
  registry.close();
});
