/** Full disks below the records, the state and the logs: what needs room fails and says so, what is there stays whole, what frees room works. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { ServiceError } from '@grpc/grpc-js';
import { ContainerState, PodSandboxState } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { shell } from '../harness/shell.ts';
import { containerConfig, idle, podConfig } from './cri.ts';
import { leftOfPods, type Node, podsAreGone, runningPod, what, withNode } from './node.ts';

interface Disk { fill(): void; free(): Promise<void> }

/** A small file system at `dir`, which is empty then. */
async function disk(dir: string, sizeMiB: number): Promise<Disk & AsyncDisposable> {
  await mkdir(dir, { recursive: true });
  await shell('/bin/mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m,mode=711`, 'tmpfs', dir]);
  const ballast = path.join(dir, 'ballast');
  return {
    fill: () => {
      const fd = openSync(ballast, 'w');
      try {
        for (const size of [65536, 4096, 1]) {
          try { for (;;) writeSync(fd, Buffer.alloc(size)); } catch (error) { assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC'); }
        }
      } finally { closeSync(fd); }
    },
    free: () => rm(ballast, { force: true }),
    [Symbol.asyncDispose]: async () => void (await shell('/bin/umount', ['--lazy', dir])),
  };
}

/** The node with one of its directories on such a disk. */
async function withDisk(which: 'root' | 'state' | 'podLogsDir', sizeMiB: number, body: (node: Node, disk: Disk) => Promise<void>): Promise<void> {
  await withNode(async (node) => {
    await node.nodelet.stop();
    await using small = await disk(node.nodelet[which], sizeMiB);
    await node.restart();
    try {
      await node.cri.pull();
      await body(node, small);
    } finally {
      await small.free();
      for (const pod of await node.cri.pods()) await node.cri.removePod(pod);
    }
    await podsAreGone(node);
    await node.nodelet.stop();
  });
}

const noSpace = (error: ServiceError): true => {
  assert.match(error.details, /ENOSPC|[Nn]o space left/);
  return true;
};

test('with a full disk for records nothing new is made, what runs can be stopped and removed, and it is well again when there is room', what, () =>
  withDisk('root', 24, async (node, small) => {
    const { cri, nodelet } = node;
    const steady = await runningPod(node, 'steady');
    const ends = await runningPod(node, 'ends', 'trap "exit 3" TERM; sleep 100000 & wait');
    const goes = await runningPod(node, 'goes');
    const pods = (await cri.pods()).length;
    const before = leftOfPods(node).length;
    small.fill();
    await assert.rejects(cri.runPod(podConfig('new', node.place)), noSpace);
    await assert.rejects(cri.create(steady.pod, podConfig('steady', node.place), containerConfig('new', idle)), noSpace);
    assert.equal((await cri.pods()).length, pods);
    assert.equal((await cri.containers()).length, pods);
    await eventually('nothing of what failed is left', () => leftOfPods(node).length, (left) => left === before);
    await cri.stop(ends.container, 30);
    const { state, exitCode } = await cri.status(ends.container);
    assert.deepEqual([state, exitCode], [ContainerState.CONTAINER_EXITED, 3]);
    await cri.stopPod(ends.pod);
    assert.equal(await cri.podState(ends.pod), PodSandboxState.SANDBOX_NOTREADY);
    await cri.removePod(goes.pod);
    small.fill();
    await nodelet.kill();
    await node.restart();
    assert.doesNotMatch(await nodelet.log(), /unreadable/);
    assert.deepEqual((await cri.pods()).toSorted(), [steady.pod, ends.pod].toSorted());
    assert.equal((await cri.status(steady.container)).state, ContainerState.CONTAINER_RUNNING);
    assert.equal((await cri.status(ends.container)).state, ContainerState.CONTAINER_EXITED);
    assert.equal(await cri.podState(ends.pod), PodSandboxState.SANDBOX_NOTREADY);
    await cri.removePod(ends.pod);
    await small.free();
    const fresh = await runningPod(node, 'fresh');
    for (const each of [steady, fresh]) await cri.removePod(each.pod);
  }));

test('with a full disk for state, containers and commands are refused until there is room', what, () =>
  withDisk('state', 4, async (node, small) => {
    const { cri } = node;
    const { pod, container } = await runningPod(node, 'state');
    small.fill();
    await assert.rejects(cri.exec(container, ['true']), noSpace);
    await assert.rejects(cri.create(pod, podConfig('state', node.place), containerConfig('new', idle)), (error: ServiceError) => error.details.includes('create'));
    assert.equal((await cri.status(container)).state, ContainerState.CONTAINER_RUNNING);
    await small.free();
    assert.equal((await cri.exec(container, ['echo', 'well'])).stdout, 'well\n');
    await cri.start(await cri.create(pod, podConfig('state', node.place), containerConfig('new', idle)));
    await cri.removePod(pod);
  }));

test('with a full disk for logs containers run on, and their logs go on when there is room', what, () =>
  withDisk('podLogsDir', 4, async (node, small) => {
    const { cri, nodelet } = node;
    const { pod, container } = await runningPod(node, 'logs', 'i=0; while true; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.02; done');
    const count = async (): Promise<number> => Number((await cri.exec(container, ['cat', '/count'])).stdout);
    const log = path.join(nodelet.podLogsDir, 'logs', 'logs.log');
    await eventually('it writes', async () => (await stat(log)).size > 0);
    small.fill();
    const full = await count();
    await eventually('it runs on', count, (now) => now > full + 50);
    const { size } = await stat(log);
    await small.free();
    await eventually('the log goes on', async () => (await stat(log)).size, (now) => now > size);
    const lines = (await readFile(log, 'utf8')).trimEnd().split('\n');
    assert.ok(Number(lines.at(-1)?.split(' ')[3]) > full, 'lines that were written later are in it');
    await cri.removePod(pod);
  }));
