/**
 * kill -9 at the steps of each request: at the begin and end of every outside program that it runs, and at every file that it makes, changes or removes.
 * After a start the request is repeated, as the kubelet does, and gets the first one's result or succeeds anew; the pod can be removed; nothing is left.
 */
import assert from 'node:assert/strict';
import { watch } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ContainerState, type PodSandboxConfig, PodSandboxState, Protocol } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { freePorts } from '../harness/private.ts';
import { containerConfig, idle, podConfig } from './cri.ts';
import { faults } from './doubles/double.ts';
import { type Node, podsAreGone, what, withNode } from './node.ts';

interface Life { readonly config: PodSandboxConfig; pod: string; container: string }
type Request = (node: Node, life: Life) => Promise<void>;

/** A pod's requests in their order. */
const requests: Readonly<Record<string, Request>> = {
  run: async ({ cri }, life) => { life.pod = await cri.runPod(life.config); },
  create: async ({ cri }, life) => { life.container = await cri.create(life.pod, life.config, containerConfig('c', idle)); },
  start: ({ cri }, { container }) => cri.start(container),
  stop: ({ cri }, { container }) => cri.stop(container, 30),
  remove: ({ cri }, { container }) => cri.remove(container),
  'stop pod': ({ cri }, { pod }) => cri.stopPod(pod),
  'remove pod': ({ cri }, { pod }) => cri.removePod(pod),
};

let lives = 0;
async function newLife({ place }: Node, sharesPid: boolean): Promise<Life> {
  const [hostPort = 0] = await freePorts(1); // gives portmap work to do
  const config = { ...podConfig(`life-${lives++}`, place, sharesPid), portMappings: [{ protocol: Protocol.TCP, containerPort: 80, hostPort, hostIp: '' }] };
  return { config, pod: '', container: '' };
}

/** Lives a life up to `name` and makes that request with `trap` set, which may kill the daemon; then as the comment above says. Whether it was killed. */
async function killedIn(node: Node, name: string, options: { readonly sharesPid: boolean; readonly trap: () => Promise<() => Promise<boolean>>; readonly label: string }): Promise<boolean> {
  const { cri, nodelet } = node;
  const life = await newLife(node, options.sharesPid);
  for (const [each, request] of Object.entries(requests)) {
    if (each !== name) {
      await request(node, life);
      continue;
    }
    const { pid } = nodelet;
    const untrap = await options.trap();
    let isAnswered = false;
    const outcome = request(node, life).then(() => undefined, (error: unknown) => error).finally(() => { isAnswered = true; });
    await eventually('an answer, or the end of the daemon', () => isAnswered || nodelet.pid !== pid, Boolean, { everyMs: 20 });
    const isKilled = await untrap();
    if (isKilled) {
      await eventually('the daemon is gone', () => nodelet.pid !== pid, Boolean, { everyMs: 20 });
      await node.restart();
      if ((await outcome) !== undefined) await request(node, life);
    }
    await check(node, life, name, options.label);
    await cri.removePod(life.pod);
    await podsAreGone(node);
    return isKilled;
  }
  throw new Error(`no request ${name}`);
}

/** What a request promises, when it has succeeded. */
async function check({ cri }: Node, life: Life, name: string, label: string): Promise<void> {
  const pods = await cri.pods();
  const containers = await cri.containers();
  assert.deepEqual(pods, name === 'remove pod' ? [] : [life.pod], `${label}: one pod`);
  assert.deepEqual(containers.map(({ id }) => id), ['create', 'start', 'stop'].includes(name) ? [life.container] : [], `${label}: one container`);
  if (name !== 'remove pod') assert.equal(await cri.podState(life.pod), name === 'stop pod' ? PodSandboxState.SANDBOX_NOTREADY : PodSandboxState.SANDBOX_READY, label);
  if (name === 'create') assert.equal(containers[0]?.state, ContainerState.CONTAINER_CREATED, label);
  if (name === 'start') assert.equal((await cri.exec(life.container, ['echo', 'here'])).stdout, 'here\n', label);
  if (name === 'stop') assert.deepEqual([containers[0]?.state, (await cri.status(life.container)).exitCode], [ContainerState.CONTAINER_EXITED, 0], label);
}

/** The program whose call kills the daemon; `lingers`: it goes on when the next daemon is there already. */
const programs = [
  { request: 'run', program: 'bridge', verb: 'ADD' }, { request: 'run', program: 'portmap', verb: 'ADD' }, { request: 'run', program: 'runc', verb: 'run' },
  { request: 'create', program: 'conmon', verb: 'monitor' }, { request: 'create', program: 'runc', verb: 'create' }, { request: 'start', program: 'runc', verb: 'start' },
  { request: 'stop pod', program: 'bridge', verb: 'DEL' }, { request: 'stop pod', program: 'portmap', verb: 'DEL' },
] as const;

test('the daemon is killed at the begin and end of every program that it runs', what, () =>
  withNode(async (node) => {
    for (const { request, program, verb } of programs) {
      for (const [when, snippet] of [['before', faults.killDaemon], ['before', `${faults.killDaemon}; sleep 1`], ['after', faults.killDaemon]] as const) {
        const label = `${request}: ${program} ${verb}, ${when}${snippet.includes('sleep') ? ', and it lingers' : ''}`;
        const trap = async (): Promise<() => Promise<boolean>> => {
          await node.doubles[program].fault(verb, when, snippet);
          return async () => {
            await node.doubles[program].mend();
            return true;
          };
        };
        await killedIn(node, request, { sharesPid: program === 'runc' && verb === 'run', trap, label });
      }
    }
  }));

/** Kills the daemon at the nth change of a file below its directories. */
function atEvent({ nodelet }: Node, nth: number): () => Promise<() => Promise<boolean>> {
  return () => {
    let left = nth;
    const { pid } = nodelet;
    let isOver = false; // a recursive watcher may still tell of something after it was closed
    const watchers = ['root/sandboxes', 'root/containers', 'root/cni', 'state'].map((name) => watch(path.join(nodelet.dir, name), { recursive: true }, () => {
      left -= 1;
      if (left === 0 && !isOver && pid !== undefined) process.kill(pid, 'SIGKILL');
    }));
    return Promise.resolve(() => {
      isOver = true;
      for (const watcher of watchers) watcher.close();
      return Promise.resolve(left <= 0);
    });
  };
}

/** Far more than there are. */
const mostEvents = 120;
/** Each file is told of several times, and a kill takes a second: KILL_EVERY=1 misses none. */
const stride = Number(process.env['KILL_EVERY'] ?? 5);

for (const sharesPid of [false, true]) {
  test(`the daemon is killed at every change of its files (${sharesPid ? 'with' : 'without'} an init)`, what, () =>
    withNode(async (node) => {
      await mkdir(path.join(node.nodelet.root, 'cni'), { recursive: true }); // made with the first pod
      for (const name of sharesPid ? ['run', 'stop pod'] : Object.keys(requests)) {
        let nth = 1;
        while (nth <= mostEvents && (await killedIn(node, name, { sharesPid, trap: atEvent(node, nth), label: `${name}: event ${nth}` }))) nth += stride;
        assert.ok(nth > 1, `${name} changes no file`);
      }
    }));
}
