/** For tests of the node's HTTPS API: a server with a fake API server behind it, and clients with certificates. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { quietCtx } from '#host/log.ts';
import { failure, FakeApiServer } from '../kube/api-server.fake.ts';
import type { SeenRequest } from '../kube/api-server.fake.ts';
import { makeCertificate } from '../kube/certificate.ts';
import type { MadeCertificate } from '../kube/certificate.ts';
import { createKubeClient } from '../kube/client.ts';
import type { Pod } from '../kube/types.ts';
import type { ServerBackend } from './routes.ts';
import { startServer } from './server.ts';

const hour = 3_600_000;
export const times = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + hour) };
export const pod: Pod = {
  metadata: { namespace: 'a', name: 'p', uid: 'u1' },
  spec: { containers: [{ name: 'run', tty: true }, { name: 'wait' }] },
  status: {
    containerStatuses: [
      { name: 'run', image: 'i', imageID: '', ready: true, restartCount: 0, containerID: 'nodelet://c1', state: { running: {} }, lastState: {} },
      { name: 'wait', image: 'i', imageID: '', ready: false, restartCount: 0, state: { waiting: { reason: 'ContainerCreating' } }, lastState: {} },
    ],
  },
};

const unexpected = (): Promise<never> => Promise.reject(new Error('the runtime was not expected to be asked'));

export interface World extends AsyncDisposable {
  readonly api: FakeApiServer;
  readonly dir: string;
  readonly port: number;
  readonly admin: MadeCertificate;
  readonly user: MadeCertificate;
  readonly stranger: MadeCertificate;
}

/** `admin` may everything, `user` only nodes/healthz; tokens "good" (is admin) and "odd" (makes the API server fail). */
function decide({ path, body }: SeenRequest): ReturnType<FakeApiServer['script']> {
  const spec = (body as { spec?: Record<string, unknown> } | undefined)?.spec ?? {};
  if (path.endsWith('/tokenreviews')) {
    if (spec['token'] === 'odd') return failure(500, 'InternalError');
    const authenticated = spec['token'] === 'good';
    return { status: 201, body: { status: { authenticated, ...(authenticated && { user: { username: 'admin', groups: ['g'] } }) } } };
  }
  const { subresource } = spec['resourceAttributes'] as { subresource: string };
  return { status: 201, body: { status: { allowed: spec['user'] === 'admin' || (spec['user'] === 'user' && subresource === 'healthz') } } };
}

export async function world(streams: Partial<ServerBackend> = {}): Promise<World> {
  const api = await FakeApiServer.start();
  api.script = decide;
  const dir = await mkdtemp(join(tmpdir(), 'server-'));
  const authority = { commonName: 'ca' };
  const ca = await makeCertificate({ subject: authority, use: 'authority', ...times });
  const other = await makeCertificate({ subject: authority, use: 'authority', ...times });
  const issue = (commonName: string, key: MadeCertificate['key']): Promise<MadeCertificate> =>
    makeCertificate({ subject: { commonName, organizations: ['team'] }, use: 'client', issuer: { subject: authority, key }, ...times });
  await writeFile(join(dir, 'ca.crt'), ca.certificatePem);
  await writeFile(join(dir, '0.log'), '2026-01-02T03:04:05.000000006Z stdout F hello\n2026-01-02T03:04:06.000000006Z stdout F world\n');
  const client = createKubeClient(api.access());
  const server = await startServer(quietCtx(), {
    address: '127.0.0.1', port: 0, nodeName: 'n1', client, clientCAFile: join(dir, 'ca.crt'), tlsCertFile: undefined, tlsPrivateKeyFile: undefined,
    selfSigned: { pkiDir: join(dir, 'pki'), nodeName: 'n1', hosts: ['localhost', '127.0.0.1'] },
    backend: {
      pods: () => [pod],
      runningPods: () => Promise.resolve([]),
      findPod: (namespace, name) => (namespace === 'a' && name === 'p' ? pod : undefined),
      containerLog: (_ctx, id) => Promise.resolve(id === 'nodelet://c1' ? { path: join(dir, '0.log'), isRunning: () => Promise.resolve(false) } : undefined),
      configz: () => ({ kind: 'KubeletConfiguration' }),
      syncLoopProblem: () => undefined,
      runningContainer: (_ctx, uid, name) => Promise.resolve(uid === 'u1' && name !== 'wait' ? 'c1' : undefined),
      readySandbox: (_ctx, uid) => Promise.resolve(uid === 'u1' ? 's1' : undefined),
      runtime: { execUrl: unexpected, attachUrl: unexpected, portForwardUrl: unexpected, execSync: unexpected },
      ...streams,
    },
  });
  return {
    api, dir, port: server.port,
    admin: await issue('admin', ca.key), user: await issue('user', ca.key), stranger: await issue('admin', other.key),
    [Symbol.asyncDispose]: async () => {
      await server.close();
      client.close();
      await api[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };
}

interface Answer {
  readonly status: number | undefined;
  readonly text: string;
}

export async function ask(it: World, path: string, options: { as?: MadeCertificate; token?: string; method?: string } = {}): Promise<Answer> {
  const ca = await readFile(join(it.dir, 'pki', 'kubelet.crt'), 'utf8');
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const request = https.request(
    {
      host: '127.0.0.1', port: it.port, path, method: options.method ?? 'GET', ca, agent: false, cert: options.as?.certificatePem, key: options.as?.keyPem,
      headers: options.token === undefined ? {} : { authorization: `Bearer ${options.token}` },
    },
    (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece)).on('end', () => resolve({ status: response.statusCode, text })).on('error', reject);
    },
  );
  request.on('error', reject).end();
  return promise;
}
