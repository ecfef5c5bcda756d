/** `nodelet check` on the machine that the tests run on: what it finds agrees with the programs themselves, and trying leaves nothing. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { nothingLeft } from '../harness/leaks.ts';
import { freePorts, privateDir } from '../harness/private.ts';
import { output, shell, type Output } from '../harness/shell.ts';
import { bundle, cniBinDir, needs, systemProgram } from '../harness/tools.ts';

interface Finding { topic: string; verdict: string; message: string; remedy?: string }
interface Report { findings: Finding[]; facts: { kernel: { release: string; fileSystems: string[] }; network: { status: { ready: boolean } } } }
const what = needs('root', 'bundle', 'cri', 'conmon', 'runc');

/** `nodelet check` with a configuration of its own. */
async function check(cri: object, port: number, flags: readonly string[] = []): Promise<Output> {
  const { dir, remove } = await privateDir('e2e-nlt');
  try {
    const file = path.join(dir, 'config.yaml');
    const common = { rootDir: path.join(dir, 'root'), stateDir: path.join(dir, 's'), cni: { confDir: path.join(dir, 'net.d'), binDirs: [cniBinDir()] } };
    await writeFile(file, JSON.stringify({ cri: { ...common, ...cri }, agent: { nodeName: 'e2e', port, healthzPort: 0 } }));
    return await output(process.execPath, [bundle, 'check', '--config', file, ...flags]);
  } finally { await remove(); }
}

test('check: this machine is fit, and what is found agrees with uname, runc and the kernel', what, () => nothingLeft(async () => {
  const [port = 0] = await freePorts(1);
  const { exitCode, stdout, stderr } = await check({}, port, ['--json']);
  const { findings, facts } = JSON.parse(stdout) as Report;
  assert.deepEqual(findings.filter(({ verdict }) => verdict === 'fail'), [], stderr);
  assert.equal(exitCode, 0);
  assert.equal(facts.kernel.release, (await shell('uname', ['-r'])).trim());
  const version = /version (\S+)/.exec(await shell(systemProgram('runc'), ['--version']))?.[1] ?? 'none';
  assert.ok(findings.some(({ verdict, message }) => verdict === 'ok' && message.startsWith(`runc ${version} `)), stdout);
  assert.ok(facts.network.status.ready, 'the generated network has its plugins');
}));

test('check: what does not work is named with its remedy, and the exit status says so', what, () => nothingLeft(async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  try {
    const { exitCode, stdout } = await check({ runtimes: [{ name: 'broken', path: '/bin/false' }], conmon: 'no-such-conmon', cni: { confDir: '/nowhere', binDirs: ['/nowhere'] } }, port);
    assert.equal(exitCode, 1);
    assert.match(stdout, /FAIL {2}broken \(\/bin\/false\) cannot create a container here/);
    assert.match(stdout, /FAIL {2}no-such-conmon is not installed.*\n +-> apt-get install conmon/);
    assert.match(stdout, /FAIL {2}pod network: .*"bridge".*\n +-> apt-get install containernetworking-plugins/);
    assert.match(stdout, new RegExp(`FAIL {2}port ${port} is wanted for the agent, but held by \\S+ \\(pid ${process.pid}\\)`));
    assert.match(stdout, /\nNot fit to be a node: 4 things to mend/);
  } finally { server.close(); }
}));
