/** Images: names, default policies, credentials, and what ensuring one does and says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Image, PodSandboxConfig } from '#cri-api';
import { Fault } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import type { Secret } from '../kube/types.ts';
import { container, podOf } from '../pod/observed.fake.ts';
import { goDuration, Images } from './ensure.ts';
import { credentialsFor } from './keyring.ts';
import { defaultPullPolicy, parseImageName } from './pull-policy.ts';
import { StartError } from './start-error.ts';

const digest = `sha256:${'0'.repeat(64)}`;
for (const [image, reference, where, policy] of [
  ['busybox', 'busybox:latest', 'docker.io/library/busybox', 'Always'],
  ['busybox:1.37', 'busybox:1.37', 'docker.io/library/busybox', 'IfNotPresent'],
  ['user/app', 'user/app:latest', 'docker.io/user/app', 'Always'],
  ['localhost/app:1', 'localhost/app:1', 'localhost/app', 'IfNotPresent'],
  ['r.example.com:5000/a/b', 'r.example.com:5000/a/b:latest', 'r.example.com:5000/a/b', 'Always'],
  [`a/b@${digest}`, `a/b@${digest}`, 'docker.io/a/b', 'IfNotPresent'],
  [`a/b:latest@${digest}`, `a/b:latest@${digest}`, 'docker.io/a/b', 'IfNotPresent'],
] as const) {
  test(`image name ${image.slice(0, 40)}`, () => {
    const parsed = parseImageName(image);
    assert.deepEqual([parsed.reference, `${parsed.host}/${parsed.path}`, defaultPullPolicy(image)], [reference, where, policy]);
  });
}
for (const [image, message] of [
  ['Foo', `couldn't parse image name "Foo": invalid reference format: repository name (library/Foo) must be lowercase`],
  ['a b', `couldn't parse image name "a b": invalid reference format`],
  ['', `couldn't parse image name "": invalid reference format`],
  ['x:', `couldn't parse image name "x:": invalid reference format`],
] as const) {
  test(`no image name: ${JSON.stringify(image)}`, () => assert.throws(() => parseImageName(image), { message }));
}

const secret = (auths: Record<string, object>): Secret => ({ data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') } });
const auth = (user: string): { auth: string } => ({ auth: btoa(`${user}:pw`) });
for (const [name, image, auths, users] of [
  ['the host', 'r.example.com/a/b', { 'r.example.com': auth('u') }, ['u']],
  ['the longest path first', 'r.example.com/a/b', { 'r.example.com': auth('host'), 'https://r.example.com/a': auth('path'), 'r.example.com/other': auth('no') }, ['path', 'host']],
  ['a wildcard for one label', 'x.example.com/a', { '*.example.com': auth('u'), 'example.com': auth('no') }, ['u']],
  ['ports must be the same', 'r:5000/a', { r: auth('no'), 'r:5000': auth('u') }, ['u']],
  ['docker hub under its old name', 'busybox', { 'https://index.docker.io/v1/': auth('u') }, ['u']],
  ['user and password without auth', 'r.example.com/a', { 'r.example.com': { username: 'plain', password: 'x' } }, ['plain']],
  ['nothing that matches', 'other.example.com/a', { 'r.example.com': auth('no') }, []],
] as [string, string, Record<string, object>, string[]][]) {
  test(`credentials: ${name}`, () => assert.deepEqual(credentialsFor(image, [secret(auths)]).map(({ username }) => username), users));
}

interface World {
  readonly images: Images;
  readonly said: string[];
  readonly pulled: string[];
  nowMs: number;
}

/** `pull` answers with a reference or throws; `present` is what the runtime has. */
function world(pull: (user: string | undefined) => string, present?: Image): World {
  const said: string[] = [];
  const pulled: string[] = [];
  let have = present;
  const made: World = {
    said, pulled, nowMs: 0,
    images: new Images({
      nowMs: () => made.nowMs,
      events: { event: (_about, type, reason, message) => void said.push(`${type[0]} ${reason}: ${message}`) },
      runtime: {
        image: () => Promise.resolve(have),
        pullImage: async (_ctx, reference, credentials) => {
          pulled.push(`${reference} ${credentials?.username ?? '-'}`);
          const ref = pull(credentials?.username);
          have = Image.fromPartial({ id: ref, size: 5n });
          return ref;
        },
      },
    }),
  };
  return made;
}
const how = { secrets: [] as Secret[], sandbox: PodSandboxConfig.fromPartial({}) };
const ensure = ({ images }: World, imagePullPolicy: string, image = 'r.example.com/a:1', secrets: Secret[] = []) =>
  images.ensure(quietCtx(), podOf(), container('c', { image, imagePullPolicy }), { ...how, secrets });
const fails = (reason: string, message: RegExp) => (error: unknown): boolean => {
  assert.ok(error instanceof StartError);
  assert.equal(error.reason, reason);
  assert.match(error.message, message);
  return true;
};

test('an image that is here is not pulled, unless the policy is Always', async () => {
  const have = world(() => 'sha256:new', Image.fromPartial({ id: 'sha256:old' }));
  assert.equal((await ensure(have, 'IfNotPresent')).ref, 'sha256:old');
  assert.deepEqual(have.said, ['N Pulled: Container image "r.example.com/a:1" already present on machine and can be accessed by the pod']);
  assert.equal((await ensure(have, 'Always')).ref, 'sha256:new');
  assert.deepEqual(have.said.slice(1), ['N Pulling: Pulling image "r.example.com/a:1"', 'N Pulled: Successfully pulled image "r.example.com/a:1" in 0s (0s including waiting). Image size: 5 bytes.']);
});

test('Never and absent is an error of its own', async () => {
  await assert.rejects(ensure(world(() => ''), 'Never'), fails('ErrImageNeverPull', /^Container image "r.example.com\/a:1" is not present with pull policy of Never$/));
});

test('a name that is none is InvalidImageName', async () => {
  await assert.rejects(ensure(world(() => ''), 'Always', 'A B'), fails('InvalidImageName', /^Failed to apply default image tag "A B": couldn't parse image name/));
});

test('a failed pull is held back 10 s, then 20 s, with the last error in the message', async () => {
  const failing = world(() => { throw new Fault('unavailable', 'no route'); });
  await assert.rejects(ensure(failing, 'Always'), fails('ErrImagePull', /^no route$/));
  await assert.rejects(ensure(failing, 'Always'), fails('ImagePullBackOff', /^Back-off pulling image "r.example.com\/a:1": ErrImagePull: no route$/));
  assert.equal(failing.pulled.length, 1);
  failing.nowMs = 10_001;
  await assert.rejects(ensure(failing, 'Always'), fails('ErrImagePull', /no route/));
  failing.nowMs = 20_002;
  await assert.rejects(ensure(failing, 'Always'), fails('ImagePullBackOff', /no route/));
  assert.deepEqual(failing.said.filter((line) => line.startsWith('W')), ['W Failed: Failed to pull image "r.example.com/a:1": no route', 'W Failed: Failed to pull image "r.example.com/a:1": no route']);
});

test('one set of credentials after the other', async () => {
  const picky = world((user) => { if (user !== 'good') throw new Fault('forbidden', 'denied'); return 'sha256:x'; });
  const secrets = [secret({ 'r.example.com/a': auth('bad'), 'r.example.com': auth('good') })];
  assert.equal((await ensure(picky, 'Always', 'r.example.com/a:1', secrets)).ref, 'sha256:x');
  assert.deepEqual(picky.pulled, ['r.example.com/a:1 bad', 'r.example.com/a:1 good']);
});

for (const [ms, text] of [[0, '0s'], [850, '850ms'], [1250, '1.25s'], [63_500, '1m3.5s'], [3_600_000, '1h0m0s']] as const) {
  test(`a duration of ${ms} ms is ${text}`, () => assert.equal(goDuration(ms), text));
}
