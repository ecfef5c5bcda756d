/** Bad input never ends the daemon nor leaves anything: every call with random fields and with random bytes, garbage and half a handshake on the socket, crowds of connections. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { Client, credentials, Metadata, type MethodDefinition, type ServiceError, status as Code } from '@grpc/grpc-js';
import { CreateContainerRequest, ImageServiceService, LinuxContainerResources, RunPodSandboxRequest, RuntimeServiceService } from '#cri-api';
import { eventually } from '../harness/eventually.ts';
import { containerConfig, podConfig } from './cri.ts';
import { podsAreGone, runningPod, what, withNode } from './node.ts';

/** mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const seed = Number(process.env['FUZZ_SEED'] ?? 20261124);
const callsPerMethod = 45;

/** Nothing here may be carried out: not a valid id of anything, nor a path or image that could be made. */
const texts = (random: () => number): string => {
  const choices = ['', 'a', '../../../etc', '/', '\0', '💥', '%s%n', 'x'.repeat(70_000), '-1', '{}', '../'.repeat(500), 'f'.repeat(64), 'docker.io/', ':', '@sha256:', '\n\r', '__proto__', 'constructor'];
  return choices[Math.floor(random() * choices.length)] ?? '';
};
const numbers = (random: () => number): bigint | number => [0, -1, 1, 2 ** 31 - 1, -(2 ** 31), 999_999, 7n, -7n, 2n ** 63n - 1n, -(2n ** 63n)][Math.floor(random() * 10)] ?? 0;

/** Places outside the node's own: what is made there would stay. */
const keptFields = ['cgroupParent', 'logDirectory', 'logPath'];

/** A message in which each field is replaced, with probability `rate`, by something else of its type. */
function mutated(value: unknown, random: () => number, rate: number): unknown {
  if (value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, keptFields.includes(key) ? each : mutated(each, random, rate)]));
  }
  if (Array.isArray(value)) return value.map((each) => mutated(each, random, rate));
  if (random() >= rate) return value;
  if (typeof value === 'string') return texts(random);
  if (typeof value === 'bigint') return BigInt(numbers(random));
  if (typeof value === 'number') return Number(numbers(random)) | 0;
  if (typeof value === 'boolean') return random() < 0.5;
  if (value instanceof Uint8Array) return Buffer.from(texts(random));
  return value;
}

/** Protobuf by hand: fields 1 to 16 of random kinds, nested, maybe cut off. Decoders take most of it. */
function randomBytes(random: () => number, depth = 0): Buffer {
  const parts: Buffer[] = [];
  for (let i = Math.floor(random() * 6); i >= 0; i--) {
    const field = 1 + Math.floor(random() * 16);
    if (random() < 0.4) parts.push(varint(BigInt(field << 3)), varint(BigInt.asUintN(64, BigInt(numbers(random)))));
    else {
      const inner = depth < 4 && random() < 0.6 ? randomBytes(random, depth + 1) : Buffer.from(texts(random));
      parts.push(varint(BigInt((field << 3) | 2)), varint(BigInt(inner.length)), inner);
    }
  }
  const whole = Buffer.concat(parts);
  return random() < 0.1 ? whole.subarray(0, Math.floor(random() * whole.length)) : whole;
}
function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

type Method = MethodDefinition<unknown, unknown>;
const methods: Method[] = [...Object.values(RuntimeServiceService), ...Object.values(ImageServiceService)] as unknown as Method[];
const identity = (bytes: Buffer): Buffer => bytes;

/** One raw call; the code that came back. A stream is cut after the first answer, or at the deadline. */
function call(client: Client, { path, responseStream }: Method, bytes: Buffer): Promise<Code> {
  const options = { deadline: Date.now() + 10_000 };
  return new Promise((resolve) => {
    if (responseStream) {
      const stream = client.makeServerStreamRequest(path, identity, identity, bytes, new Metadata(), options);
      stream.on('data', () => { stream.cancel(); });
      stream.on('error', (error: ServiceError) => { resolve(error.code); });
      stream.on('end', () => { resolve(Code.OK); });
      setTimeout(() => { stream.cancel(); }, 200).unref();
    } else client.makeUnaryRequest(path, identity, identity, bytes, new Metadata(), options, (error) => { resolve(error?.code ?? Code.OK); });
  });
}

/** These would be carried out whatever the fields say, and leave what nobody asked for. */
const carriedOut = ['UpdateRuntimeConfig'];

test(`every call with random messages is answered, and the daemon goes on (FUZZ_SEED=${seed})`, what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const { pid } = nodelet;
    const { pod, container } = await runningPod(node, 'bystander');
    const victim = await runningPod(node, 'victim');
    const random = randomOf(seed);
    const templates: Readonly<Record<string, unknown>> = {
      RunPodSandbox: RunPodSandboxRequest.create({ config: podConfig('fuzz', node.place) }),
      CreateContainer: CreateContainerRequest.create({ podSandboxId: victim.pod, config: containerConfig('fuzz', 'true'), sandboxConfig: podConfig('victim', node.place) }),
      ...Object.fromEntries(['StartContainer', 'ContainerStatus', 'ReopenContainerLog', 'ContainerStats'].map((name) => [name, { containerId: victim.container, verbose: true }])),
      ExecSync: { containerId: victim.container, cmd: ['true'], timeout: 2n }, Exec: { containerId: victim.container, cmd: ['true'], tty: false, stdin: false, stdout: true, stderr: true },
      UpdateContainerResources: { containerId: victim.container, linux: LinuxContainerResources.create(), annotations: {} },
      PodSandboxStatus: { podSandboxId: victim.pod, verbose: true }, PortForward: { podSandboxId: victim.pod, port: [80] }, StopContainer: { containerId: victim.container, timeout: 1n },
    };
    const client = new Client(`unix://${nodelet.socket}`, credentials.createInsecure());
    const codes = new Map<string, number>();
    for (const method of methods.filter(({ path }) => !carriedOut.some((name) => path.endsWith(name)))) {
      const valid = templates[method.path.split('/').at(-1) ?? ''] ?? method.requestDeserialize(Buffer.alloc(0));
      const messages = Array.from({ length: callsPerMethod }, (_, i) => {
        if (i % 3 === 0) return randomBytes(random);
        return untilTaken(() => method.requestSerialize(mutated(i % 3 === 1 ? valid : untilTaken(() => method.requestDeserialize(randomBytes(random))), random, i % 2 === 0 ? 0.05 : 0.4)));
      });
      for (const code of await Promise.all(messages.map((bytes) => call(client, method, bytes)))) {
        const key = `${method.path.split('/').at(-1)} ${Code[code]}`;
        codes.set(key, (codes.get(key) ?? 0) + 1);
      }
      assert.equal(nodelet.pid, pid, `it died of ${method.path}`);
    }
    client.close();
    assert.deepEqual([...codes.keys()].filter((key) => key.endsWith('UNAVAILABLE') && !key.startsWith('PullImage')), [], 'no call lost its connection');
    assert.equal((await cri.exec(container, ['echo', 'well'])).stdout, 'well\n');
    for (const each of await cri.pods()) await cri.removePod(each);
    assert.equal((await nodelet.log()).includes('TypeError'), false, 'no error of a kind that only mistakes make');
    assert.notEqual(pod, '');
    await podsAreGone(node);
  }));

/** The generated code refuses some at once (a negative number in an unsigned field, bytes that are cut off): another one then. */
function untilTaken<T>(make: () => T): T {
  for (;;) {
    try {
      return make();
    } catch { /* the next one */ }
  }
}

/** Again while the daemon has not come to accept those before (EAGAIN). */
async function opened(socket: string): Promise<Socket> {
  return await eventually('a connection', () => new Promise<Socket>((resolve, reject) => {
    const each = connect(socket);
    each.once('connect', () => { resolve(each); }).once('error', reject);
    each.on('error', () => undefined); // the daemon may close it
  }));
}

test('garbage, half a handshake and a thousand connections that say nothing do not disturb the others', what, () =>
  withNode(async (node) => {
    const { cri, nodelet } = node;
    const { pid } = nodelet;
    const random = randomOf(seed);
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
    const sayings = [preface, preface.slice(0, 10), 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', `${preface}${'\0'.repeat(100)}`, `${preface}${'\xff'.repeat(5000)}`, '\x16\x03\x01', ...Array.from({ length: 50 }, () => Buffer.from(Array.from({ length: 400 }, () => Math.floor(random() * 256))).toString('latin1'))];
    const sockets: Socket[] = [];
    for (const saying of sayings) {
      const each = await opened(nodelet.socket);
      each.write(saying, 'latin1');
      sockets.push(each);
    }
    for (let i = 0; i < 1000; i++) sockets.push(await opened(nodelet.socket));
    assert.equal((await cri.pods()).length, 0);
    const { pod } = await runningPod(node, 'served');
    for (const each of sockets) each.destroy();
    await cri.removePod(pod);
    assert.equal(nodelet.pid, pid);
    await eventually('they are closed', () => readdirSync(`/proc/${nodelet.pid}/fd`), (fds) => fds.length < 200);
    await podsAreGone(node);
  }));
