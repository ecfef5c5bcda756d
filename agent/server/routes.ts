/** The paths of port 10250 and what answers them. */
import { lstat } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { nowNs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { findContainer } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';
import { readLog } from '../logs/read.ts';
import { healthAnswer } from './health.ts';
import { logContainerId, parseLogRequest } from './log-request.ts';
import { attachUrl, execUrl, portForwardUrl, runCommand, type StreamBackend, type StreamUrl } from './stream-request.ts';

/** What the server needs to know of the node; given by the daemon. */
export interface ServerBackend extends StreamBackend {
  /** All pods of this node, static ones too, with their status as last computed. */
  pods(): readonly Pod[];
  /** What the runtime runs, whether the API server knows it or not. */
  runningPods(ctx: Ctx): Promise<readonly Pod[]>;
  /** By the id of a container status (`runtime://id`). Undefined: the runtime no longer knows it. */
  containerLog(ctx: Ctx, containerId: string): Promise<{ readonly path: string; readonly isRunning: () => Promise<boolean> } | undefined>;
  /** Shown by /configz: the configuration in KubeletConfiguration's names. */
  configz(): unknown;
  /** What is wrong with the pod workers; undefined while they live. */
  syncLoopProblem(): string | undefined;
}

export interface Exchange {
  readonly ctx: Ctx;
  readonly backend: ServerBackend;
  readonly response: ServerResponse;
  readonly path: string;
  readonly query: URLSearchParams;
  /** What stands for `{name}` in the pattern. */
  readonly parameters: Readonly<Record<string, string>>;
}

type Handler = (exchange: Exchange) => Promise<void> | void;

interface Route {
  readonly methods: readonly string[];
  /** `{name}` stands for one part. */
  readonly pattern: string;
  /** A plain request. */
  readonly handle: Handler;
  /** An upgraded one: where it is proxied to. */
  readonly stream?: StreamUrl;
}

const stream = (path: string, url: StreamUrl): Route => ({ methods: ['GET', 'POST'], pattern: path, handle: (exchange) => needsUpgrade(exchange, url), stream: url });

const routes: readonly Route[] = [
  { methods: ['GET'], pattern: '/healthz', handle: health },
  { methods: ['GET'], pattern: '/healthz/{check}', handle: health },
  { methods: ['GET'], pattern: '/pods', handle: ({ backend, response }) => answerJson(response, podList(backend.pods())) },
  { methods: ['GET'], pattern: '/runningpods/', handle: async ({ ctx, backend, response }) => answerJson(response, podList(await backend.runningPods(ctx))) },
  { methods: ['GET'], pattern: '/configz', handle: ({ backend, response }) => answerJson(response, { kubeletconfig: backend.configz() }) },
  { methods: ['GET'], pattern: '/containerLogs/{namespace}/{pod}/{container}', handle: containerLogs },
  { methods: ['POST'], pattern: '/run/{namespace}/{pod}/{container}', handle: run },
  { methods: ['POST'], pattern: '/run/{namespace}/{pod}/{uid}/{container}', handle: run },
  stream('/exec/{namespace}/{pod}/{container}', execUrl),
  stream('/exec/{namespace}/{pod}/{uid}/{container}', execUrl),
  stream('/attach/{namespace}/{pod}/{container}', attachUrl),
  stream('/attach/{namespace}/{pod}/{uid}/{container}', attachUrl),
  stream('/portForward/{namespace}/{pod}', portForwardUrl),
  stream('/portForward/{namespace}/{pod}/{uid}', portForwardUrl),
];

export type Match = { readonly route: Route; readonly parameters: Record<string, string> } | 'not-found' | { readonly allow: readonly string[] };

/** `allow`: the path is known, but not for this method. */
export function findRoute(method: string, path: string): Match {
  const allow: string[] = [];
  for (const route of routes) {
    const parameters = matchPattern(route.pattern, path);
    if (parameters === undefined) continue;
    if (route.methods.includes(method)) return { route, parameters };
    allow.push(...route.methods);
  }
  return allow.length === 0 ? 'not-found' : { allow: [...new Set(allow)] };
}

function matchPattern(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? '';
    const name = /^\{(.+)\}$/.exec(part)?.[1];
    if (name === undefined) {
      if (part !== value) return undefined;
      continue;
    }
    const decoded = decode(value);
    if (decoded === undefined || decoded === '') return undefined;
    parameters[name] = decoded;
  }
  return parameters;
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined; // a lone %
  }
}

function health({ backend, response, path, query }: Exchange): void {
  const answer = healthAnswer(path, query.has('verbose'), () => backend.syncLoopProblem());
  if (answer === undefined) answerText(response, 404, '404 page not found\n');
  else answerText(response, answer.status, answer.text);
}

async function containerLogs({ ctx, backend, response, query, parameters }: Exchange): Promise<void> {
  const { namespace = '', pod: podName = '', container = '' } = parameters;
  const checked = parseLogRequest(query, nowNs());
  if (!('value' in checked)) return answerText(response, checked.status, checked.text);
  const pod = backend.findPod(namespace, podName);
  if (pod === undefined) return answerText(response, 404, `pod ${JSON.stringify(podName)} does not exist`);
  if (findContainer(pod, container) === undefined) return answerText(response, 404, `container ${JSON.stringify(container)} not found in pod ${JSON.stringify(podName)}`);
  const id = logContainerId(podName, pod.status, container, checked.value.previous);
  const log = await backend.containerLog(ctx, id);
  if (log === undefined) return answerText(response, 400, `unable to retrieve container logs for ${id}`);
  const isThere = await lstat(log.path).then(() => true, () => false);
  if (!isThere) return answerText(response, 400, `failed to try resolving symlinks in path ${JSON.stringify(log.path)}: lstat ${log.path}: no such file or directory`);
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders(); // whoever follows a silent container must know that it is connected
  for await (const piece of readLog(ctx, log.path, checked.value.options, log.isRunning)) {
    if (!response.write(piece)) await drained(ctx, response);
  }
  response.end();
}

async function needsUpgrade(exchange: Exchange, url: StreamUrl): Promise<void> {
  const checked = await url({ ...exchange, isWebsocket: false });
  if ('value' in checked) answerText(exchange.response, 400, 'Upgrade request required');
  else answerText(exchange.response, checked.status, checked.text);
}

async function run(exchange: Exchange): Promise<void> {
  const { response } = exchange;
  const checked = await runCommand({ ...exchange, isWebsocket: false });
  if (!('value' in checked)) return answerText(response, checked.status, checked.text);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(checked.value);
}

async function drained(ctx: Ctx, response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => resolve();
  response.once('drain', done);
  ctx.signal.addEventListener('abort', done, { once: true });
  if (ctx.signal.aborted) resolve();
  await promise;
  response.off('drain', done);
  ctx.signal.removeEventListener('abort', done);
}

const podList = (items: readonly Pod[]): object => ({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items });

export function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' });
  response.end(text);
}

function answerJson(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
