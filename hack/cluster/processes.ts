/** Background programs of the developer scripts and the end-to-end tests: started with a log and a pid file, stopped by pid, start time and executable. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Service {
  /** Also the names of the files: DIR/NAME.pid and DIR/NAME.log. */
  readonly name: string;
  readonly dir: string;
  /** Absolute path of the program that will be running, which is not `via[0]`. */
  readonly program: string;
  readonly args: readonly string[];
  /** A wrapper that execs the program, e.g. ['/usr/bin/unshare', '--mount']. */
  readonly via?: readonly string[];
  /** Added to this process's own environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Kill it when this process ends (tests); otherwise it outlives us (the developer's cluster). */
  readonly ephemeral?: boolean;
}

interface Identity { readonly pid: number; readonly startTicks: string }

/** Field 22 of /proc/PID/stat: with the pid it names one process for as long as the machine is up. Undefined when it is gone or a zombie. */
export function startTicksOf(pid: number): string | undefined {
  let text: string;
  try { text = readFileSync(`/proc/${pid}/stat`, 'latin1'); } catch { return undefined; }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

const pidFile = (service: Service): string => path.join(service.dir, `${service.name}.pid`);
export const logFile = (service: Pick<Service, 'dir' | 'name'>): string => path.join(service.dir, `${service.name}.log`);

/** The pid of the running service; undefined when the pid file is missing or names a process that is not (any more) this program. */
export function runningPid(service: Service): number | undefined {
  let identity: Identity;
  try { identity = JSON.parse(readFileSync(pidFile(service), 'utf8')) as Identity; } catch { return undefined; }
  if (startTicksOf(identity.pid) !== identity.startTicks) return undefined;
  try {
    return readlinkSync(`/proc/${identity.pid}/exe`).replace(/ \(deleted\)$/, '') === realpathSync(service.program) ? identity.pid : undefined;
  } catch { return undefined; }
}

/** Starts the service unless it runs already; returns once the program itself is running. Throws with the end of the log when it ends at once. */
export async function startService(service: Service): Promise<void> {
  if (runningPid(service) !== undefined) return;
  mkdirSync(service.dir, { recursive: true });
  const [program = service.program, ...args] = [...(service.via ?? []), service.program, ...service.args];
  const log = openSync(logFile(service), 'a');
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log], env: { ...process.env, ...service.env } });
  closeSync(log);
  const failed = new Promise<never>((_resolve, reject) => { child.once('error', reject); });
  failed.catch(() => undefined); // spawn(2) errors arrive through the race below
  child.unref();
  const { pid } = child;
  const startTicks = pid === undefined ? undefined : startTicksOf(pid);
  if (pid === undefined || startTicks === undefined) return await Promise.race([failed, sleep(100).then(() => { throw ended(service); })]);
  writeFileSync(pidFile(service), JSON.stringify({ pid, startTicks } satisfies Identity));
  if (service.ephemeral === true) endWithUs(service);
  for (let tries = 0; runningPid(service) === undefined; tries++) { // until the wrapper has become the program
    if (startTicksOf(pid) !== startTicks || tries > 500) throw ended(service);
    await sleep(10);
  }
}

/** Stops the service: SIGTERM, after `graceMs` SIGKILL, returns when it is gone. Not running is success. */
export async function stopService(service: Service, graceMs = 15_000): Promise<void> {
  const pid = runningPid(service);
  ephemeral.delete(service);
  if (pid !== undefined) await endProcess(pid, graceMs);
  rmSync(pidFile(service), { force: true });
}

/** SIGKILL, as a crash would be; returns when the process is gone. */
export async function killService(service: Service): Promise<void> {
  await stopService(service, 0);
}

async function endProcess(pid: number, graceMs: number): Promise<void> {
  const startTicks = startTicksOf(pid);
  const send = (signal: NodeJS.Signals): void => {
    try { process.kill(pid, signal); } catch (e) { if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e; }
  };
  const deadline = Date.now() + graceMs;
  send(graceMs > 0 ? 'SIGTERM' : 'SIGKILL');
  for (let killed = graceMs <= 0; startTicksOf(pid) === startTicks; await sleep(20)) {
    if (killed || Date.now() < deadline) continue;
    send('SIGKILL');
    killed = true;
  }
}

/** The last lines of a service's log, for messages. */
function logTail(service: Pick<Service, 'dir' | 'name'>, lines = 15): string {
  try { return readFileSync(logFile(service), 'utf8').trimEnd().split('\n').slice(-lines).join('\n'); } catch { return '(no log)'; }
}

const ended = (service: Service): Error => new Error(`${service.name} ended right after its start; ${logFile(service)} ends with:\n${logTail(service)}`);

/** Waits until `probe` is true while the service runs. Throws with the end of the log when it ends, or is not ready in `withinMs`. */
export async function waitUntilReady(service: Service, probe: () => Promise<boolean>, withinMs = 120_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await probe())) {
    const gone = runningPid(service) === undefined;
    if (gone || Date.now() > deadline) {
      throw new Error(`${service.name} ${gone ? 'ended before it was ready' : `was not ready within ${withinMs / 1000} s`}; ${logFile(service)} ends with:\n${logTail(service)}`);
    }
    await sleep(100);
  }
}

const ephemeral = new Set<Service>();
let isWatching = false;
/** A killed test run must not leave daemons behind. Only what this process started is touched. */
function endWithUs(service: Service): void {
  if (!isWatching) {
    isWatching = true;
    process.once('exit', killEphemeral);
    for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]] as const) process.once(signal, () => process.exit(128 + number));
  }
  ephemeral.add(service);
}
function killEphemeral(): void {
  for (const service of ephemeral) {
    const pid = runningPid(service);
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  }
}
