/** Lists and streams over a real socket: chunks, order, a slow reader, a reader that goes away. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectCri, Container, ContainerEventResponse, type CriClient, encoded, type ListContainersResponse, type StreamContainersResponse } from '#cri-api';
import { quietCtx } from '#host/log.ts';
import { listen } from './listen.ts';
import { listMethods, type ListVerbs } from './list-methods.ts';

const unused = (): never => { throw new Error('not asked for here'); };
const none: ListVerbs = {
  listPodSandbox: unused, listContainers: unused, listContainerStats: unused, listPodSandboxStats: unused, listPodSandboxMetrics: unused, containerEvents: unused,
};

async function withClient(verbs: Partial<ListVerbs>, body: (client: CriClient) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'nl-'));
  const listening = await listen(join(dir, 'cri.sock'), { runtime: listMethods(quietCtx().log, { ...none, ...verbs }), image: {} }, []);
  const client = connectCri(join(dir, 'cri.sock'));
  try {
    await body(client);
  } finally {
    client.close();
    await listening.close(0);
    await rm(dir, { recursive: true });
  }
}

const big = (count: number): Container[] => Array.from({ length: count }, (_, index) => Container.create({ id: String(index), annotations: { pad: 'x'.repeat(100_000) } }));
const ids = (containers: readonly Container[]): string[] => containers.map(({ id }) => id);

test('a list comes in one message, its stream in several, with every item once and in the same order', () => {
  const containers = big(20);
  return withClient({ listContainers: () => containers.map((each, index) => (index % 2 === 0 ? encoded(Container, each) : async () => encoded(Container, each))) }, async ({ runtime }) => {
    const list = await new Promise<ListContainersResponse>((resolve, reject) => {
      runtime.listContainers({ filter: undefined }, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
    assert.deepEqual(list.containers, containers);
    const chunks: string[][] = [];
    for await (const chunk of runtime.streamContainers({ filter: undefined })) chunks.push(ids((chunk as StreamContainersResponse).containers));
    assert.deepEqual(chunks.flat(), ids(containers));
    assert.equal(chunks.length, 4);
  });
});

test('an empty list is a stream without a message', () => withClient({ listContainers: () => [] }, async ({ runtime }) => {
  for await (const chunk of runtime.streamContainers({ filter: undefined })) assert.fail(`got ${String(chunk)}`);
}));

test('a failure ends a stream with its status', () => withClient({ listContainers: () => [() => Promise.reject(new Error('no numbers'))] }, async ({ runtime }) => {
  await assert.rejects(async () => { for await (const _ of runtime.streamContainers({ filter: undefined })); }, /2 UNKNOWN: no numbers/);
}));

test('a reader that stops reading holds the work up, and when it goes away the work ends', () => {
  let worked = 0;
  const items = big(1).map((each) => encoded(Container, each));
  const many = Array.from({ length: 5000 }, () => async () => {
    worked += 1;
    return items[0] as (typeof items)[number];
  });
  return withClient({ listContainers: () => many }, async ({ runtime }) => {
    const call = runtime.streamContainers({ filter: undefined });
    call.on('error', () => undefined);
    await once(call, 'data');
    call.pause();
    let before = -1;
    while (worked !== before) {
      before = worked;
      await sleep(200);
    }
    assert.ok(worked < 1000, `${worked} of 5000 were worked out for a reader that has stopped`);
    call.cancel();
    await sleep(100);
    const after = worked;
    await sleep(200);
    assert.equal(worked, after);
  });
});

test('events come as they are told, and the source ends with its listener', () => {
  let hasEnded = false;
  async function* events(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      yield encoded(ContainerEventResponse, ContainerEventResponse.create({ containerId: 'c1' }));
      await new Promise((resolve) => { signal.addEventListener('abort', resolve); });
    } finally {
      hasEnded = true;
    }
  }
  return withClient({ containerEvents: (ctx) => events(ctx.signal) }, async ({ runtime }) => {
    const call = runtime.getContainerEvents({});
    const [event] = (await once(call, 'data')) as [ContainerEventResponse];
    assert.equal(event.containerId, 'c1');
    call.on('error', () => undefined);
    call.cancel();
    while (!hasEnded) await sleep(10);
  });
});
