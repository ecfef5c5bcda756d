/** crictl: what changes something, in the short forms and for everything at once. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { containerConfig, lines, onHostNetwork, podConfig, runContainer, withCri } from '../harness/crictl-walk.ts';
import { criNeeds } from '../harness/cri-server.ts';
import { eventually } from '../harness/eventually.ts';
import { busyboxImage, tagImage } from '../harness/registry.ts';
import { findSystemProgram, needs } from '../harness/tools.ts';

const here = needs(...criNeeds());

test('limits are updated while a container runs; a subnet for pods is taken', here, () => withCri(async (crictl, cri) => {
  const { id } = await runContainer(crictl, cri, { name: 'updated', command: ['sleep', '1000'], pod: onHostNetwork, container: { linux: { resources: { memory_limit_in_bytes: 64 << 20, cpu_shares: 512 } } } });
  await crictl.run(['update', '--memory', String(32 << 20), '--cpu-share', '256', id]);
  const { status } = await crictl.json<{ status: { resources: { linux: { memoryLimitInBytes: string; cpuShares: string } } } }>(['inspect', id]);
  assert.deepEqual([status.resources.linux.memoryLimitInBytes, status.resources.linux.cpuShares], [String(32 << 20), '256']);
  assert.equal((await crictl.run(['exec', '-s', id, 'sh', '-c', 'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'])).trim(), String(32 << 20));
  assert.notEqual((await crictl.output(['update', '--memory', '4096', id])).exitCode, 0, 'a limit that the kernel refuses');
  await crictl.run(['update-runtime-config', '--pod-cidr', '10.99.0.0/24']);
}));

test('run makes pod and container at once; everything can be stopped and removed at once', here, () => withCri(async (crictl, cri) => {
  const podFile = await crictl.file('pod.json', podConfig(cri, 'quick', onHostNetwork));
  const first = lines(await crictl.run(['run', '--with-pull', await crictl.file('first.json', containerConfig('first', ['sleep', '1000'])), podFile])).at(-1) ?? '';
  assert.deepEqual(lines(await crictl.run(['ps', '-q'])), [first]);
  const [pod = ''] = lines(await crictl.run(['pods', '-q']));
  const second = lines(await crictl.run(['create', '--with-pull', pod, await crictl.file('second.json', containerConfig('second', ['sleep', '1000'], { image: { image: tagImage } })), podFile])).at(-1) ?? '';
  assert.equal((await crictl.run(['images', '-q', tagImage])).trim().length > 0, true, 'create pulled it');
  await crictl.run(['stop', '-a']);
  assert.equal((await crictl.run(['ps', '-q'])).trim(), '');
  assert.notEqual((await crictl.output(['start', first])).exitCode, 0, 'a container runs once');
  await crictl.run(['rm', second]);
  await crictl.run(['rm', '-a', '-f']);
  assert.equal((await crictl.run(['ps', '-a', '-q'])).trim(), '');
  await crictl.run(['stopp', pod]);
  await crictl.run(['rmp', '-a']);
  assert.equal((await crictl.run(['pods', '-q'])).trim(), '');
}));

test('rm refuses a running container unless forced, rmi --prune keeps images that are used', here, () => withCri(async (crictl, cri) => {
  const { id } = await runContainer(crictl, cri, { name: 'kept', command: ['sleep', '1000'], pod: onHostNetwork });
  await crictl.run(['pull', tagImage]);
  assert.match((await crictl.output(['rm', id])).stderr, /running/);
  await crictl.run(['rmi', '--prune']);
  const { images } = await crictl.json<{ images: { repoTags: string[] }[] }>(['images']);
  const tags = images.flatMap(({ repoTags }) => repoTags);
  assert.ok(tags.includes(busyboxImage) && !tags.includes(tagImage), tags.join());
  await crictl.run(['rm', '-f', id]);
  assert.equal((await crictl.run(['ps', '-a', '-q'])).trim(), '');
}));

test('a checkpoint is refused with a reason where there is no CRIU', here, (t) => withCri(async (crictl, cri) => {
  if (findSystemProgram('criu') !== undefined) return t.skip('criu is installed');
  const { id } = await runContainer(crictl, cri, { name: 'frozen', command: ['sleep', '1000'], pod: onHostNetwork });
  const { exitCode, stderr } = await crictl.output(['checkpoint', '--export', path.join(cri.dir, 'checkpoint.tar'), id]);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /criu|checkpoint/i);
  await eventually('it still runs', () => crictl.run(['ps', '-q']), (ids) => ids.trim() === id);
}));
