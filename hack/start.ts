/** Runs `nodelet run` on manifests/standalone/ and shows which pods there are, whenever that changes. Called by start.sh; flags go on to nodelet. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connectCri, type Container, type ListContainersResponse, type ListPodSandboxResponse, type PodSandbox, type PodSandboxStatusResponse } from '#cri-api';

const top = dirname(import.meta.dirname);
const flags = process.argv.slice(2);
const valueOf = (flag: string): string | undefined => {
  const at = flags.indexOf(`--${flag}`);
  return at < 0 ? flags.find((each) => each.startsWith(`--${flag}=`))?.slice(flag.length + 3) : flags[at + 1];
};
const socket = valueOf('socket') ?? join(valueOf('state') ?? '/run/nodelet', 'cri.sock');
const pods = valueOf('pods') ?? join(top, 'manifests/standalone');
const logFile = join(top, '.cache/nodelet.log');

mkdirSync(dirname(logFile), { recursive: true });
const log = openSync(logFile, 'a');
const logStart = statSync(logFile).size;
const startedMs = performance.now();
const args = ['run', ...(valueOf('pods') === undefined ? ['--pods', pods] : []), ...flags];
// A process group of its own: Ctrl-C reaches this program, which then asks the daemon once.
const daemon = spawn(join(top, 'hack/nodelet.sh'), args, { stdio: ['ignore', log, log], detached: true });
const ended = new Promise<number>((resolve) => {
  daemon.once('exit', (code, signal) => resolve(code ?? (signal === null ? 0 : 1)));
  daemon.once('error', (error) => {
    console.error(`    cannot start nodelet: ${error.message}`);
    resolve(1);
  });
});
let stopping = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (!stopping) daemon.kill('SIGTERM');
    stopping = true;
  });
}
console.log(`    pods from ${pods}, log in ${logFile}, CRI socket ${socket}`);

const cri = connectCri(socket);
const call = <Request, Response>(method: (request: Request, done: (error: Error | null, response: Response) => void) => unknown): ((request: Request) => Promise<Response>) =>
  promisify(method.bind(cri.runtime) as (request: Request, done: (error: Error | null, response: Response) => void) => void);
const listPods = call<{ filter: undefined }, ListPodSandboxResponse>(cri.runtime.listPodSandbox);
const podStatus = call<{ podSandboxId: string; verbose: boolean }, PodSandboxStatusResponse>(cri.runtime.podSandboxStatus);
const listContainers = call<{ filter: undefined }, ListContainersResponse>(cri.runtime.listContainers);

const stateNames = ['created', 'running', 'exited', 'unknown'];

/** Phase as the kubelet sees it, of what the CRI knows: Pending until every container was started, Running while one runs. */
function phaseOf(containers: readonly Container[]): string {
  if (containers.length === 0 || containers.some(({ state }) => state === 0)) return 'Pending';
  return containers.some(({ state }) => state === 1) ? 'Running' : 'Ended';
}

async function row(pod: PodSandbox, all: readonly Container[]): Promise<string[]> {
  // Of each container the newest attempt counts.
  const newest = new Map<string, Container>();
  for (const each of all.filter(({ podSandboxId }) => podSandboxId === pod.id)) {
    const name = each.metadata?.name ?? '';
    if ((newest.get(name)?.createdAt ?? -1n) < each.createdAt) newest.set(name, each);
  }
  const containers = [...newest.values()];
  const { status } = await podStatus({ podSandboxId: pod.id, verbose: false });
  const described = containers.map(({ metadata, state }) => `${metadata?.name} ${stateNames[state] ?? state}${(metadata?.attempt ?? 0) > 0 ? ` (restart ${metadata?.attempt})` : ''}`);
  return [`${pod.metadata?.namespace}/${pod.metadata?.name}`, phaseOf(containers), status?.network?.ip ?? '', described.toSorted().join(', ')];
}

async function table(): Promise<string> {
  const [{ items }, { containers }] = await Promise.all([listPods({ filter: undefined }), listContainers({ filter: undefined })]);
  const ready = items.filter(({ state }) => state === 0);
  const rows = [['POD', 'PHASE', 'IP', 'CONTAINERS'], ...(await Promise.all(ready.map((pod) => row(pod, containers)))).toSorted(([a = ''], [b = '']) => a.localeCompare(b))];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) => `    ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()}`).join('\n');
}

/** Prints the table whenever it differs from the one before, until the daemon has ended. */
async function show(): Promise<void> {
  let before = '';
  while (!stopping && daemon.exitCode === null && daemon.signalCode === null) {
    try {
      // Dialled only once it is there: a failed dial is repeated no sooner than after a second.
      const now = existsSync(socket) ? await table() : '';
      if (now !== before) console.log(`\n    after ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n${now}`);
      if (before === '' && now !== '') console.log('\n    more: crictl --runtime-endpoint unix://' + socket + ' ps -a');
      before = now;
    } catch {
      // The socket is not there yet, or a pod went away between two calls: the next round sees it.
    }
    await Promise.race([sleep(500, undefined, { ref: false }), ended]);
  }
}

await show();
const code = await ended;
cri.close();
if (stopping && code === 0) {
  console.log('\n    nodelet stopped; its containers keep running. `npm start` finds them again, `npm run clean` removes everything.');
} else {
  const tail = existsSync(logFile) ? readFileSync(logFile).subarray(logStart).toString().trimEnd().split('\n').slice(-15).join('\n') : '';
  console.error(`\n    nodelet ended with status ${code}; the end of ${logFile}:\n${tail}`);
}
process.exitCode = stopping ? code : code === 0 ? 1 : code;
