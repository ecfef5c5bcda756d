/**
 * Requests for exec, attach, port-forward and run: what they ask for, checked, and where the runtime serves it. Texts and statuses as the
 * kubelet's (pkg/kubelet/server/server.go, kubelet_pods.go, k8s.io/cri-streaming errors.go).
 */
import type { Ctx } from '#host/ctx.ts';
import { explain, isFault } from '#host/fault.ts';
import type { Runtime } from '../cri/runtime.ts';
import { findContainer, podName, podNamespace, podUid } from '../kube/pod-facts.ts';
import type { Pod } from '../kube/types.ts';
import type { Checked, Refusal } from './checked.ts';

/** What streams need of the node. */
export interface StreamBackend {
  findPod(namespace: string, name: string): Pod | undefined;
  /** The id of the pod's newest running container of this name. */
  runningContainer(ctx: Ctx, podUid: string, name: string): Promise<string | undefined>;
  /** The id of the pod's sandbox, if it is ready. */
  readySandbox(ctx: Ctx, podUid: string): Promise<string | undefined>;
  readonly runtime: Pick<Runtime, 'execUrl' | 'attachUrl' | 'portForwardUrl' | 'execSync'>;
}

export interface StreamRequest {
  readonly ctx: Ctx;
  readonly backend: StreamBackend;
  readonly query: URLSearchParams;
  /** `namespace`, `pod`, and where the path has them `uid` and `container`. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly isWebsocket: boolean;
}

/** The URL, for one use. */
export type StreamUrl = (request: StreamRequest) => Promise<Checked<string>>;

const refused = (status: number, text: string): Refusal => ({ status, text });

export const execUrl: StreamUrl = ({ ctx, backend, query, parameters }) =>
  answered(async () => {
    const streams = streamsOf(query);
    if (streams === undefined) return noStreams;
    const pod = podOf(backend, parameters);
    if (pod === undefined) return noPod;
    const containerId = await containerOf(ctx, backend, pod, parameters);
    if (containerId === undefined) return refused(500, `container not found (${JSON.stringify(parameters['container'])})`);
    return { value: await backend.runtime.execUrl(ctx, { containerId, cmd: query.getAll('command'), ...streams }) };
  });

export const attachUrl: StreamUrl = ({ ctx, backend, query, parameters }) =>
  answered(async () => {
    const streams = streamsOf(query);
    if (streams === undefined) return noStreams;
    const pod = podOf(backend, parameters);
    if (pod === undefined) return noPod;
    const { container = '' } = parameters;
    const containerId = await containerOf(ctx, backend, pod, parameters);
    const spec = findContainer(pod, container);
    if (containerId === undefined || spec === undefined) return refused(500, `container ${container} not found in pod ${podName(pod)}_${podNamespace(pod)}`);
    // A running process has a terminal or not, whatever the client wants; with one, both outputs are the same.
    const tty = spec.tty === true;
    return { value: await backend.runtime.attachUrl(ctx, { containerId, ...streams, tty, stderr: streams.stderr && !tty }) };
  });

export const portForwardUrl: StreamUrl = ({ ctx, backend, query, parameters, isWebsocket }) =>
  answered(async () => {
    const ports = isWebsocket ? portsOf(query) : { value: [] };
    if (!('value' in ports)) return ports;
    const pod = podOf(backend, parameters);
    if (pod === undefined) return noPod;
    if (!isMeant(pod, parameters)) return refused(404, 'pod not found');
    const sandboxId = await backend.readySandbox(ctx, podUid(pod));
    if (sandboxId === undefined) return refused(500, `pod not found (${JSON.stringify(`${podName(pod)}_${podNamespace(pod)}`)})`);
    return { value: await backend.runtime.portForwardUrl(ctx, sandboxId, ports.value) };
  });

/** The output of a command, as /run answers it. */
export async function runCommand({ ctx, backend, query, parameters }: StreamRequest): Promise<Checked<Uint8Array>> {
  return answered(async () => {
    const pod = podOf(backend, parameters);
    if (pod === undefined) return noPod;
    const containerId = await containerOf(ctx, backend, pod, parameters);
    if (containerId === undefined) return refused(500, `container not found (${JSON.stringify(parameters['container'])})`);
    const command = (query.get('cmd') ?? '').split(' ');
    const { stdout, stderr, exitCode } = await backend.runtime.execSync(ctx, containerId, command, 0);
    if (exitCode !== 0) return refused(500, `command '${command.join(' ')}' exited with ${exitCode}: ${Buffer.from(stderr).toString('utf8')}`);
    return { value: Buffer.concat([stdout, stderr]) };
  });
}

const noStreams = refused(400, 'you must specify at least 1 of stdin, stdout, stderr');
const noPod = refused(404, 'pod does not exist');

/** What the runtime could not do is an answer too. */
async function answered<T>(work: () => Promise<Checked<T>>): Promise<Checked<T>> {
  try {
    return await work();
  } catch (error) {
    return refused(isFault(error, 'not-found') ? 404 : isFault(error, 'exhausted') ? 429 : 500, explain(error));
  }
}

interface Streams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** A terminal has one output: stderr beside it is dropped without a word. Undefined when nothing is asked for. */
function streamsOf(query: URLSearchParams): Streams | undefined {
  const isOne = (name: string): boolean => query.get(name) === '1';
  const tty = isOne('tty');
  const streams = { stdin: isOne('input'), stdout: isOne('output'), stderr: isOne('error') && !tty, tty };
  return streams.stdin || streams.stdout || streams.stderr ? streams : undefined;
}

/** In the query only when the client speaks websocket; with SPDY each stream names its port. */
function portsOf(query: URLSearchParams): Checked<number[]> {
  const texts = query.getAll('port');
  if (texts.length === 0) return refused(400, 'query parameter "port" is required');
  for (const text of texts) {
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) return refused(400, `unable to parse ${JSON.stringify(text)} as a port`);
    if (Number(text) === 0) return refused(400, `port ${JSON.stringify(text)} must be > 0`);
  }
  return { value: texts.map(Number) };
}

const podOf = (backend: StreamBackend, { namespace = '', pod = '' }: StreamRequest['parameters']): Pod | undefined => backend.findPod(namespace, pod);

/** A path may say which pod of this name is meant. */
const isMeant = (pod: Pod, { uid }: StreamRequest['parameters']): boolean => uid === undefined || uid === podUid(pod);

const containerOf = async (ctx: Ctx, backend: StreamBackend, pod: Pod, parameters: StreamRequest['parameters']): Promise<string | undefined> =>
  isMeant(pod, parameters) ? backend.runningContainer(ctx, podUid(pod), parameters['container'] ?? '') : undefined;
