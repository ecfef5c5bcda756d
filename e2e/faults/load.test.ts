/** Containers that behave badly: commands that never end, hold their output or never stop talking, a fork bomb, one that ignores everything, endless logs. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { status as Code } from '@grpc/grpc-js';
import { ContainerState, LinuxContainerConfig } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { containerConfig, podConfig } from './cri.ts';
import { leftOfPods, type Node, podsAreGone, runningPod, what, withNode } from './node.ts';

/** Of the daemon, in MiB. */
const residentMiB = ({ nodelet }: Node): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${nodelet.pid}/status`, 'utf8'))?.[1]) / 1024;
const descriptors = ({ nodelet }: Node): number => readdirSync(`/proc/${nodelet.pid}/fd`).length;

test('commands: a grandchild that keeps stdout, output without end, time-outs by the hundred', what, () =>
  withNode(async (node) => {
    const { cri } = node;
    const { pod, container } = await runningPod(node, 'exec');
    const processes = async (): Promise<string[]> => (await cri.exec(container, ['ps', '-o', 'args'])).stdout.trim().split('\n').slice(1).filter((line) => line !== 'ps -o args').toSorted();
    const before = await processes();
    const [left, opened] = [leftOfPods(node).length, descriptors(node)];

    const held = await cri.exec(container, ['sh', '-c', 'sleep 4242 & echo $!'], { deadlineMs: 20_000 });
    assert.deepEqual({ ...held, stdout: '' }, { stdout: '', stderr: '', exitCode: 0 });
    await cri.exec(container, ['sh', '-c', `kill ${held.stdout}`]);

    const much = await cri.exec(container, ['sh', '-c', 'head -c 100000000 /dev/zero; echo end >&2; exit 5']);
    assert.equal(much.exitCode, 5);
    assert.ok(much.stdout.length > 15 * 2 ** 20 && much.stdout.length <= 16 * 2 ** 20, `${much.stdout.length} bytes`);

    const outcomes = await Promise.all(Array.from({ length: 100 }, () => cri.exec(container, ['sh', '-c', 'sleep 5555 & setsid sleep 5555 & sleep 5555'], { timeoutSeconds: 1 }).then(() => 'ended', (error: { code: number }) => error.code)));
    assert.deepEqual([...new Set(outcomes)], [Code.DEADLINE_EXCEEDED]);
    await eventually('the container has only its own processes', processes, (now) => now.join() === before.join());
    await eventually('the daemon keeps nothing of them', () => [leftOfPods(node).length, descriptors(node)], ([things = 0, open = 0]) => things <= left && open <= opened + 2);
    await cri.removePod(pod);
    await podsAreGone(node);
  }));

test('a fork bomb stays below its limit, and goes at a stop; so does a container that ignores all signals', what, () =>
  withNode(async (node) => {
    const { cri, place } = node;
    const config = podConfig('bomb', place);
    const pod = await cri.runPod(config);
    const linux = LinuxContainerConfig.create({ resources: { unified: { 'pids.max': '64' } } });
    const bomb = await cri.create(pod, config, containerConfig('bomb', 'f() { f | f & }; f; while true; do f; done 2>/dev/null', { linux }));
    await cri.start(bomb);
    const deaf = await cri.create(pod, config, containerConfig('deaf', 'trap "" TERM INT HUP QUIT USR1 USR2; while true; do sleep 1; done'));
    await cri.start(deaf);
    assert.equal((await cri.exec(deaf, ['echo', 'here'])).stdout, 'here\n');
    await Promise.all([cri.stop(bomb, 1), cri.stop(deaf, 1)]);
    assert.equal((await cri.status(deaf)).exitCode, 137);
    assert.equal((await cri.status(bomb)).state, ContainerState.CONTAINER_EXITED);
    await cri.removePod(pod);
    await podsAreGone(node);
  }));

test('a line of 100 MB comes whole into the log, and no line is lost when the log is moved away under a flood; the daemon holds none of it', what, () =>
  withNode(async (node) => {
    const { cri, place, nodelet } = node;
    const resident = residentMiB(node);
    const line = await runningPod(node, 'line', 'head -c 100000000 /dev/zero | tr "\\0" x; echo; echo done');
    await eventually('it has ended', () => cri.status(line.container), ({ state }) => state === ContainerState.CONTAINER_EXITED);
    let bytes = 0;
    const tags = new Map<string, number>();
    for (const entry of readFileSync(path.join(place.logs, 'line', 'line.log'), 'latin1').trimEnd().split('\n')) {
      const [, , tag = '', text = ''] = entry.split(' ');
      tags.set(tag, (tags.get(tag) ?? 0) + 1);
      bytes += text.length;
    }
    assert.equal(bytes, 100_000_000 + 'done'.length);
    assert.equal(tags.get('F'), 2, 'only the last part of a line ends it');

    const count = 200_000;
    const flood = await runningPod(node, 'flood', `i=0; while [ $i -lt ${count} ]; do i=$((i+1)); echo $i; done; sleep 100000`);
    const log = path.join(place.logs, 'flood', 'flood.log');
    const parts: string[] = [];
    for (let i = 0; i < 5; i++) {
      parts.push(`${log}.${i}`);
      await rename(log, `${log}.${i}`);
      await cri.call('reopenContainerLog', { containerId: flood.container });
    }
    const lines = (): string[] => [...parts, log].map((file) => readFileSync(file, 'utf8')).join('').split('\n').filter(Boolean)
      .map((entry) => entry.split(' ')).map(([, , tag, ...text]) => text.join(' ') + (tag === 'F' ? '\n' : '')).join('').trimEnd().split('\n');
    await eventually('it has written all', lines, (seen) => seen.at(-1) === String(count));
    assert.ok(lines().every((text, i) => text === String(i + 1)), 'every line once, in order');
    assert.ok(residentMiB(node) < resident + 50, `${residentMiB(node)} MiB after ${resident}`);
    assert.notEqual(nodelet.pid, undefined);
    for (const each of [line, flood]) await cri.removePod(each.pod);
    await podsAreGone(node);
  }));
