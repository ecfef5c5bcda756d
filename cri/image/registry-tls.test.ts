/** Registries with certificates: whom we trust, who we are, and what is said when that does not fit. Real TLS on loopback. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import { explain } from '#host/fault.ts';
import { quietCtx } from '#host/log.ts';
import { digestOf } from './digest.ts';
import { parseReference } from './reference.ts';
import { Registry } from './registry.ts';

const what = { skip: spawnSync('openssl', ['version']).status !== 0 && 'openssl is not installed' };
const manifest = Buffer.from('{"schemaVersion":2}');
let dir: string;
let port: number;
let close: () => Promise<void>;

/** A certificate for itself, so that it is its own authority. */
function certificate(name: string): void {
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', join(dir, `${name}.key`), '-out', join(dir, `${name}.crt`)];
  assert.equal(spawnSync('openssl', args).status, 0);
}

before(async () => {
  if (what.skip !== false) return;
  dir = await mkdtemp(join(tmpdir(), 'nodelet-tls-'));
  for (const name of ['server', 'client', 'other']) certificate(name);
  await writeFile(join(dir, 'damaged.crt'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  const text = (name: string): Promise<string> => readFile(join(dir, name), 'utf8');
  const options = { cert: await text('server.crt'), key: await text('server.key'), ca: await text('client.crt'), requestCert: true, rejectUnauthorized: false };
  const server = createServer(options, (request, response) => {
    const isKnown = (request.socket as TLSSocket).authorized;
    const needsClient = (request.url ?? '').includes('/guarded/');
    if (needsClient && !isKnown) response.writeHead(403).end();
    else response.writeHead(200, { 'docker-content-digest': digestOf(manifest), 'x-header': String(request.headers['x-key']) }).end(manifest);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
  close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true });
  };
});
after(() => close?.());

/** Resolves a tag at the server, as `hosts` (`$URL`, `$DIR`) says about example.test; without `hosts`, as a registry on this machine. */
async function ask(hosts: string | undefined, repository = 'team/app'): Promise<string> {
  const certsDir = await mkdtemp(join(dir, 'certs-'));
  if (hosts !== undefined) {
    await mkdir(join(certsDir, 'example.test'));
    await writeFile(join(certsDir, 'example.test/hosts.toml'), hosts.replaceAll('$URL', `https://127.0.0.1:${port}`).replaceAll('$DIR', dir));
  }
  const registry = new Registry({ certsDir, retryDelayMs: 1 });
  try {
    const name = hosts === undefined ? `127.0.0.1:${port}` : 'example.test';
    return (await (await registry.session({ reference: parseReference(`${name}/${repository}:1`), auth: undefined })).resolve(quietCtx(), [])).digest;
  } catch (error) {
    return explain(error);
  } finally {
    registry.close();
  }
}

const cases: readonly (readonly [name: string, hosts: string | undefined, want: RegExp, repository?: string])[] = [
  ['an authority that nobody knows is refused', 'server = "$URL"', /its certificate is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT; its authority can be named in hosts\.toml\)$/],
  ['an authority that hosts.toml names is trusted', 'server = "$URL"\nca = "$DIR/server.crt"', /^sha256:/],
  ['another authority does not help', 'server = "$URL"\nca = ["$DIR/other.crt"]', /is not trusted/],
  ['a file that is no authority is told', 'server = "$URL"\nca = "$DIR/server.key"', /server\.ca: .*server\.key holds no certificate in PEM form$/],
  ['a damaged certificate is told', 'server = "$URL"\nca = "$DIR/damaged.crt"', /certificates that are configured for this host cannot be used/],
  ['verification can be left out', '[host."$URL"]\nskip_verify = true', /^sha256:/],
  ['a registry on this machine is not verified', undefined, /^sha256:/],
  ['who shows no certificate stays out where one is asked for', '[host."$URL"]\nskip_verify = true', /403 Forbidden/, 'guarded/app'],
  ['a client certificate is shown, with its key in another file', '[host."$URL"]\nskip_verify = true\nclient = [["$DIR/client.crt", "$DIR/client.key"]]', /^sha256:/, 'guarded/app'],
  ['the wrong client certificate does not help', '[host."$URL"]\nskip_verify = true\nclient = [["$DIR/other.crt", "$DIR/other.key"]]', /403 Forbidden/, 'guarded/app'],
];
for (const [name, hosts, want, repository] of cases) test(name, what, async () => assert.match(await ask(hosts, repository), want));
