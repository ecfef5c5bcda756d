/** hosts.toml in containerd's format, and what is done without one. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isLoopbackHost, parseHosts, registryEndpoints, type Endpoint } from './registry-hosts.ts';

const parse = (text: string, domain = 'docker.io'): Promise<Endpoint[]> => parseHosts(text, { file: '/certs/hosts.toml', dir: '/certs', domain });
const address = ({ scheme, host, path }: Endpoint): string => `${scheme}://${host}${path}`;

test('mirrors come in the order of the file, the registry itself last', async () => {
  const endpoints = await parse(`
    server = "https://registry-1.docker.io"
    [host."https://b.example.com"]
      capabilities = ["pull"]
    [host."http://a.example.com:5000/proxy"]
    [host."https://c.example.com/v2/docker"]
      override_path = true
  `);
  assert.deepEqual(endpoints.map(address), ['https://b.example.com/v2', 'http://a.example.com:5000/proxy/v2', 'https://c.example.com/v2/docker', 'https://registry-1.docker.io/v2']);
  assert.deepEqual(endpoints.map(({ isMirror, canResolve, canPull }) => [isMirror, canResolve, canPull]), [[true, false, true], [true, true, true], [true, true, true], [false, true, true]]);
});
test('without server the registry itself is the last', async () => {
  assert.deepEqual((await parse('[host."mirror"]')).map(address), ['https://mirror/v2', 'https://registry-1.docker.io/v2']);
  assert.deepEqual((await parse('', 'quay.io')).map(address), ['https://quay.io/v2']);
});
test('a mirror that is the server too is asked once, for all that either may', async () => {
  const endpoints = await parse('server = "http://m:5000"\n[host."http://m:5000"]\ncapabilities = ["pull"]\n[host."https://m:5000"]');
  assert.deepEqual(endpoints.map(address), ['http://m:5000/v2', 'https://m:5000/v2']);
  assert.equal(endpoints[0]?.canResolve, true);
});
test('headers, verification and time-outs are read', async () => {
  const [endpoint] = await parse('[host."https://m"]\nskip_verify = true\ndial_timeout = "1m1.5s"\n[host."https://m".header]\nX-Key = "a"\nx-list = ["b", "c"]');
  assert.deepEqual([endpoint?.tls.skipVerify, endpoint?.dialTimeoutMs, endpoint?.headers], [true, 61_500, { 'x-key': ['a'], 'x-list': ['b', 'c'] }]);
});

const bad: readonly (readonly [text: string, message: RegExp])[] = [
  ['server = 5', /^Fault: \/certs\/hosts\.toml: server: is not a string/],
  ['server = "https://a b"', /server: .* is not an address/],
  ['[host."https://m"]\ncapabilities = ["pul"]', /host\."https:\/\/m"\.capabilities: "pul" is none of pull, resolve, push/],
  ['[host."https://m"]\nskip_verfy = true', /skip_verfy: is not known/],
  ['[host."https://m"]\nca = "/nowhere/ca.pem"', /ca: \/nowhere\/ca\.pem cannot be read/],
  ['[host."https://m"]\ndial_timeout = "soon"', /dial_timeout: is not a duration/],
  ['host = "x"', /host: is not a table/],
  ['[host', /hosts\.toml: Invalid TOML/],
];
for (const [text, message] of bad) test(`${JSON.stringify(text)} is refused with file and key`, () => assert.rejects(parse(text), message));

test('the directory of the host counts before _default, and a port may be written with underscores', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-hosts-'));
  try {
    const write = async (name: string, host: string): Promise<void> => {
      await mkdir(join(dir, name));
      await writeFile(join(dir, name, 'hosts.toml'), `[host."https://${host}"]`);
    };
    await write('_default', 'default');
    await write('quay.io', 'quay');
    await write('r.example.com_5000_', 'port');
    const first = async (domain: string): Promise<string | undefined> => (await registryEndpoints(dir, domain))[0]?.host;
    assert.deepEqual([await first('quay.io'), await first('r.example.com:5000'), await first('gcr.io')], ['quay', 'port', 'default']);
    assert.equal((await registryEndpoints(dir, 'gcr.io')).at(-1)?.host, 'gcr.io');
  } finally {
    await rm(dir, { recursive: true });
  }
});
test("docker's layout of certificates is taken where there is no hosts.toml", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'nodelet-hosts-'));
  try {
    await mkdir(join(dir, 'r.example.com'));
    for (const name of ['ca.crt', 'client.cert', 'client.key']) await writeFile(join(dir, 'r.example.com', name), name);
    assert.deepEqual((await registryEndpoints(dir, 'r.example.com'))[0]?.tls, { ca: ['ca.crt'], cert: 'client.cert', key: 'client.key', skipVerify: false });
  } finally {
    await rm(dir, { recursive: true });
  }
});
test('without any configuration: https, on this machine perhaps http', async () => {
  const of = async (domain: string): Promise<string> => address((await registryEndpoints('/nowhere', domain))[0] ?? assert.fail());
  assert.deepEqual([await of('docker.io'), await of('quay.io'), await of('localhost:5000'), await of('127.0.0.1:5000')], ['https://registry-1.docker.io/v2', 'https://quay.io/v2', 'https://localhost:5000/v2', 'https://127.0.0.1:5000/v2']);
});
for (const [host, want] of [['localhost', true], ['127.9.9.9:1', true], ['[::1]:5', true], ['localhost.example.com', false], ['127.example.com', false], ['10.0.0.1', false]] as const) {
  test(`${host} is ${want ? '' : 'not '}this machine`, () => assert.equal(isLoopbackHost(host), want));
}
