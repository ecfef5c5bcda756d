/** crictl: what one can ask for. Filters, prefixes of ids, the details that operators look for, logs. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { containerConfig, lines, onHostNetwork, podConfig, runContainer, withCri } from '../harness/crictl-walk.ts';
import { criNeeds } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import { busyboxImage } from '../harness/registry.ts';
import { output } from '../harness/shell.ts';
import { judge, needs } from '../harness/tools.ts';

const here = needs(...criNeeds());

test('config keeps settings in its file, completion knows every command', needs('cri'), async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'nodelet-crictl-'));
  const file = path.join(dir, 'crictl.yaml');
  const crictl = async (...args: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await output(judge('crictl'), ['-c', file, ...args]);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  };
  try {
    await crictl('config', '--set', 'timeout=7,runtime-endpoint=unix:///nowhere.sock');
    assert.equal((await crictl('config', '--get', 'timeout')).trim(), '7');
    assert.match(await readFile(file, 'utf8'), /runtime-endpoint: ["']?unix:\/\/\/nowhere.sock/);
    assert.match(await crictl('completion', 'bash'), /crictl/);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('info and the three inspects tell operators what they look for', here, () => withCri(async (crictl, cri) => {
  const { pod, id } = await runContainer(crictl, cri, { name: 'looked-at', command: ['sleep', '1000'], container: { linux: { resources: { memory_limit_in_bytes: 64 << 20 } } } });
  interface Info { status: object; config: object; runtimeHandlers: { name?: string }[]; features: object }
  const info = await crictl.json<Info>(['info']);
  assert.ok(info.runtimeHandlers.some(({ name = '' }) => name === ''), 'the default handler has an empty name');
  assert.ok('config' in info && 'features' in info);

  interface Inspected { status: { id: string; resources: { linux: { memoryLimitInBytes: string } } }; info: { pid: number; sandboxID: string; snapshotKey: string; runtimeSpec: { process: { args: string[] }; linux: object }; config: { metadata: { name: string }; linux: { resources: object } } } }
  const container = await crictl.json<Inspected>(['inspect', id]);
  assert.deepEqual([container.info.sandboxID, container.info.snapshotKey, container.info.config.metadata.name], [pod, id, 'looked-at']);
  assert.match(JSON.stringify(container.info.config.linux.resources), new RegExp(`emory_?[lL]imit_?[iI]n_?[bB]ytes":${64 << 20}\\b`), 'numbers are numbers');
  assert.deepEqual(container.info.runtimeSpec.process.args, ['sleep', '1000']);
  assert.equal(container.status.resources.linux.memoryLimitInBytes, String(64 << 20));
  assert.equal((await readFile(`/proc/${container.info.pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim(), 'sleep 1000');

  interface InspectedPod { status: { network: { ip: string }; linux: { namespaces: { options: object } } }; info: { config: { hostname: string }; cniResult: object; runtimeHandler?: string } }
  const sandbox = await crictl.json<InspectedPod>(['inspectp', pod]);
  assert.equal(sandbox.info.config.hostname, 'looked-at');
  assert.ok(JSON.stringify(sandbox.info.cniResult).includes(sandbox.status.network.ip), 'the CNI result has the address');

  interface InspectedImage { status: { id: string }; info: { chainID: string; imageSpec: { config: { Cmd?: string[]; Env?: string[] }; os: string } } }
  const image = await crictl.json<InspectedImage>(['inspecti', busyboxImage]);
  assert.match(image.info.chainID, /^sha256:[0-9a-f]{64}$/);
  assert.equal(image.info.imageSpec.os, 'linux');
  const template = await crictl.run(['inspect', '-o', 'go-template', '--template', '{{.status.metadata.name}} {{.info.sandboxID}}', id]);
  assert.equal(template.trim(), `looked-at ${pod}`);
  assert.equal((await crictl.output(['inspect', '-a', '--image', 'wrong'])).exitCode, 0, 'a filter that fits nothing is no error');
  assert.match((await crictl.output(['inspect', 'ffffffffffff'])).stderr, /not ?found/i);
}));

test('pods and containers are found by every filter, and by a prefix of their id while it fits one', here, () => withCri(async (crictl, cri) => {
  const { pod, id } = await runContainer(crictl, cri, { name: 'web', command: ['sleep', '1000'], pod: onHostNetwork });
  const other = await runContainer(crictl, cri, { name: 'db', command: ['true'], pod: onHostNetwork });
  await eventually('the other has ended', () => crictl.run(['ps', '-a', '-q', '--state', 'exited']), (ids) => ids.trim() === other.id);
  const containers: [string[], string[]][] = [
    [[], [id]], [['-a'], [other.id, id]], [['--state', 'running'], [id]], [['-a', '--name', 'db'], [other.id]], [['-a', '--pod', pod.slice(0, 13)], [id]],
    [['-a', '--label', 'part=db'], [other.id]], [['-a', '--id', other.id.slice(0, 13)], [other.id]], [['-a', '--label', 'part=none'], []], [['-a', '--last', '1'], [other.id]], [['--image', busyboxImage], [id]],
  ];
  for (const [filter, ids] of containers) assert.deepEqual(lines(await crictl.run(['ps', '-q', ...filter])), ids, `ps ${filter.join(' ')}`);
  const pods: [string[], string[]][] = [
    [[], [other.pod, pod]], [['--name', 'web'], [pod]], [['--namespace', 'e2e'], [other.pod, pod]], [['--label', 'app=db'], [other.pod]], [['--state', 'ready', '--id', pod.slice(0, 13)], [pod]],
    [['--state', 'notready'], []],
  ];
  for (const [filter, ids] of pods) assert.deepEqual(lines(await crictl.run(['pods', '-q', ...filter])), ids, `pods ${filter.join(' ')}`);
  // containerd does not look at this filter.
  if (cri.name !== 'containerd') assert.equal(lines(await crictl.run(['images', '-q', busyboxImage])).length, 1);
  assert.match(await crictl.run(['ps', '-a', '--resolve-image-path']), /busybox/);

  assert.equal((await crictl.json<{ status: { id: string } }>(['inspect', id.slice(0, 13)])).status.id, id);
  assert.equal((await crictl.json<{ status: { id: string } }>(['inspectp', pod.slice(0, 13)])).status.id, pod);
  const byFirst = new Map([[pod[0], pod]]);
  for (let count = 0; ; count += 1) {
    const next = (await crictl.run(['runp', await crictl.file(`n${count}.json`, podConfig(cri, `n${count}`, onHostNetwork))])).trim();
    if (byFirst.has(next[0])) {
      assert.notEqual((await crictl.output(['inspectp', next.slice(0, 1)])).exitCode, 0, 'a prefix that fits two is refused');
      assert.notEqual((await crictl.output(['rmp', '-f', next.slice(0, 1)])).exitCode, 0);
      break;
    }
    byFirst.set(next[0], next);
  }
}));

test('logs are shown from any point, followed until the container ends, and those of the attempt before', here, () => withCri(async (crictl, cri) => {
  const { pod, id } = await runContainer(crictl, cri, {
    name: 'talks', command: ['sh', '-c', 'for i in 1 2 3; do echo line $i; done; until [ -e /go ]; do sleep 0.1; done; echo end'], pod: onHostNetwork, container: { log_path: 'talks/0.log' },
  });
  await eventually('three lines', () => crictl.run(['logs', id]), (text) => text === 'line 1\nline 2\nline 3\n');
  assert.equal(await crictl.run(['logs', '--tail', '1', id]), 'line 3\n');
  assert.match(await crictl.run(['logs', '--timestamps', '--tail', '1', id]), /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d) line 3\n$/);
  assert.equal(await crictl.run(['logs', '--limit-bytes', '6', id]), 'line 1');
  await using following = crictl.start(['logs', '-f', id]);
  await following.says(/line 3/);
  await crictl.run(['logs', '-r', id]);
  await crictl.run(['exec', '-s', id, 'touch', '/go']);
  await following.says(/end/);
  assert.equal(await following.exitCode, 0);
  const again = containerConfig('talks', ['echo', 'second life'], { metadata: { name: 'talks', attempt: 1 }, log_path: 'talks/1.log' });
  const second = (await crictl.run(['create', pod, await crictl.file('again.json', again), await crictl.file('pod.json', podConfig(cri, 'talks', onHostNetwork))])).trim();
  await crictl.run(['start', second]);
  await eventually('the log of the second life', () => crictl.run(['logs', second]), (text) => text === 'second life\n');
  assert.match(await crictl.run(['logs', '-p', second]), /^line 1\n[^]*end\n$/);
}));
