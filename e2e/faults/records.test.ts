/** Records that are cut off, empty, garbage or of another version, a machine that was rebooted, pids that are somebody else's by now. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { status as Code } from '@grpc/grpc-js';
import { ContainerState, PodSandboxState } from '#cri-api';
import { removeWithMounts } from '../harness/private.ts';
import { shell } from '../harness/shell.ts';
import { containerConfig, idle, podConfig } from './cri.ts';
import { type Node, podsAreGone, runningPod, what, withNode } from './node.ts';

const recordOf = ({ nodelet }: Node, kind: 'containers' | 'sandboxes', id: string): string => path.join(nodelet.root, kind, id, 'record.json');

const damages: readonly (readonly [string, (file: string) => Promise<void>])[] = [
  ['cut off in the middle', async (file) => truncate(file, Math.floor((await readFile(file)).length / 2))],
  ['empty', (file) => truncate(file, 0)],
  ['garbage', (file) => writeFile(file, Buffer.from(Array.from({ length: 512 }, (_, i) => (i * 37) % 256)))],
  ['JSON of something else', (file) => writeFile(file, 'null')],
  ['of a newer version', async (file) => writeFile(file, (await readFile(file, 'utf8')).replace('"version": 1', '"version": 2'))],
  ['of an older version', async (file) => {
    const { id, name } = JSON.parse(await readFile(file, 'utf8')) as { id: string; name: string };
    await writeFile(file, JSON.stringify({ version: 1, id, name }));
  }],
  ['missing', (file) => rm(file)],
];

test('a container whose record is damaged is said to be, and goes; the others do not notice', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const good = await runningPod(node, 'good');
    const config = podConfig('bad', node.place);
    const pod = await cri.runPod(config);
    const damaged = new Map<string, string>();
    for (const [damage] of damages) {
      const id = await cri.create(pod, config, containerConfig(damage.replaceAll(' ', '-').toLowerCase(), idle));
      await cri.start(id);
      damaged.set(damage, id);
    }
    await nodelet.kill();
    for (const [damage, inflict] of damages) await inflict(recordOf(node, 'containers', damaged.get(damage) ?? ''));
    await node.restart();
    assert.deepEqual((await cri.containers()).map(({ id, state }) => [id, state]), [[good.container, ContainerState.CONTAINER_RUNNING]]);
    const log = await nodelet.log();
    for (const [damage, id] of damaged) {
      if (damage !== 'missing') assert.ok(log.split('\n').some((line) => line.includes('unreadable container record') && line.includes(id)), damage);
    }
    assert.deepEqual((await cri.pods()).toSorted(), [good.pod, pod].toSorted());
    assert.equal((await cri.exec(good.container, ['echo', 'well'])).stdout, 'well\n');
    const again = await cri.create(pod, config, containerConfig('again', idle));
    await cri.start(again);
    for (const each of await cri.pods()) await cri.removePod(each);
    await podsAreGone(node);
  }));

test('a sandbox whose record is damaged is said to be, and goes; its containers can still be stopped and removed', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const good = await runningPod(node, 'good');
    const damaged: { pod: string; container: string }[] = [];
    for (const [i] of damages.entries()) {
      const config = podConfig(`bad-${i}`, node.place, true);
      const pod = await cri.runPod(config);
      const container = await cri.create(pod, config, containerConfig('c', idle));
      await cri.start(container);
      damaged.push({ pod, container });
    }
    await nodelet.kill();
    for (const [i, [, inflict]] of damages.entries()) await inflict(recordOf(node, 'sandboxes', damaged[i]?.pod ?? ''));
    await node.restart();
    assert.deepEqual(await cri.pods(), [good.pod]);
    assert.equal((await nodelet.log()).split('\n').filter((line) => line.includes('unreadable sandbox record')).length, damages.length - 1);
    for (const { container } of damaged) {
      await cri.stop(container, 5);
      await cri.remove(container);
    }
    await cri.removePod(good.pod);
    await podsAreGone(node);
  }));

test('after a reboot every container is exited and every sandbox not ready, and all can be removed', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const before = [await runningPod(node, 'one'), await runningPod(node, 'two')];
    const config = podConfig('init', node.place, true);
    const withInit = await cri.runPod(config);
    const created = await cri.create(withInit, config, containerConfig('created', idle));
    const processes: number[] = [];
    for (const id of [...before.map(({ container }) => container), created]) {
      const { pid, monitor } = await cri.info(id);
      processes.push(monitor, pid);
    }
    await nodelet.kill();
    // What a reboot does: no process, no mount, nothing in the directories of /run.
    for (const pid of processes) process.kill(pid, 'SIGKILL');
    for (const dir of [nodelet.state, path.join(nodelet.root, 'containers')]) await unmountBelow(dir);
    await removeWithMounts(nodelet.state);
    for (const id of await readdir(path.join(nodelet.root, 'sandboxes'))) await unmountBelow(path.join(nodelet.root, 'sandboxes', id));
    await node.restart();
    for (const { pod, container } of before) {
      assert.equal(await cri.podState(pod), PodSandboxState.SANDBOX_NOTREADY);
      assert.equal((await cri.status(container)).state, ContainerState.CONTAINER_EXITED);
      await assert.rejects(cri.start(container), { code: Code.FAILED_PRECONDITION });
    }
    assert.equal((await cri.status(created)).state, ContainerState.CONTAINER_EXITED);
    await cri.removePod(await cri.runPod({ ...podConfig('one', node.place), metadata: { name: 'one', namespace: 'faults', uid: 'one-uid', attempt: 1 } }));
    for (const each of await cri.pods()) await cri.removePod(each);
    await podsAreGone(node);
  }, { ipMasq: false }));

async function unmountBelow(dir: string): Promise<void> {
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').toReversed()) {
    const point = line.split(' ')[4] ?? '';
    if (point.startsWith(`${dir}/`)) await shell('/bin/umount', ['--lazy', point]);
  }
}

test('a pid that belongs to another process by now is neither believed nor killed', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const { pod, container } = await runningPod(node, 'reused');
    const { pid, monitor } = await cri.info(container);
    await nodelet.kill();
    process.kill(monitor, 'SIGKILL');
    process.kill(pid, 'SIGKILL');
    const bystander = spawn('sleep', ['100000'], { stdio: 'ignore' });
    try {
      const file = recordOf(node, 'containers', container);
      const record = JSON.parse(await readFile(file, 'utf8')) as { process: { pid: number }; monitor: { pid: number } };
      record.process.pid = bystander.pid ?? 0;
      record.monitor.pid = bystander.pid ?? 0;
      await writeFile(file, JSON.stringify(record));
      await node.restart();
      assert.equal((await cri.status(container)).state, ContainerState.CONTAINER_EXITED);
      await cri.removePod(pod);
      assert.ok(existsSync(`/proc/${bystander.pid}`) && bystander.exitCode === null && bystander.signalCode === null, 'the bystander lives');
    } finally { bystander.kill('SIGKILL'); }
    await podsAreGone(node);
  }));
