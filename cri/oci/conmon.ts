/**
 * conmon, the monitor of one container: it holds the container's stdio, writes its log, and leaves its exit code in a file when we may be away.
 *
 *   spawn ──▶ waits on the start pipe ──start byte──▶ forks (the parent ends) ──▶ `runtime create` ──▶ {"data": pid} on the sync pipe
 *   container ends ──▶ <exitsDir>/<id> is renamed into place ──▶ conmon ends
 *
 * Files in the bundle: attach (socket), ctl (FIFO), conmon.pid, pid, oom. Source: conmon 2.1.6 src/cli.c, conmon.c, ctr_exit.c; only options
 * of that version (Debian 12) are used.
 */
import { closeSync, constants, readFileSync } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { type Ctx, withTimeout } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { type Child, spawn } from '#host/exec.ts';
import { Fault } from '#host/fault.ts';
import { unlessGivenUp } from '#host/give-up.ts';
import { pipe } from '#host/libc.ts';
import { programMark } from '#host/marked-programs.ts';
import { identify, type ProcessId } from '#host/process.ts';
import { readIfThere } from '#host/read-if-there.ts';
import { connectSeqpacket, type SeqpacketStream } from '#host/seqpacket.ts';
import { commandLine, globalArgs, type OciRuntime, runtimeEnv } from './runtime.ts';

const maxMessageBytes = 64 * 1024;

export interface MonitorOrder {
  readonly id: string;
  /** For conmon's own messages. */
  readonly name: string;
  readonly bundleDir: string;
  /** Undefined: output is dropped. */
  readonly logPath: string | undefined;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Close stdin when the first attached client ends it. */
  readonly stdinOnce: boolean;
}

export interface MonitorPaths {
  /** Absolute path of conmon. */
  readonly conmon: string;
  /** Gets a symlink `<id>` to each bundle, so that socket paths stay short. */
  readonly socketsDir: string;
  /** Gets each exit code, in a file `<id>`: on a tmpfs, for the bundle's disk may be full when a container ends. */
  readonly exitsDir: string;
}

/** The files that conmon makes in a bundle. */
const monitorFiles = (bundleDir: string): { pidFile: string; oomFile: string; control: string; runtimeLog: string } => ({
  pidFile: join(bundleDir, 'conmon.pid'),
  oomFile: join(bundleDir, 'oom'),
  control: join(bundleDir, 'ctl'),
  runtimeLog: join(bundleDir, 'runtime.log'),
});

/** No --persist-dir: where it cannot write there (a full disk), conmon ends without any note. */
export function monitorArgs(paths: MonitorPaths, runtime: OciRuntime, order: MonitorOrder): string[] {
  const { bundleDir, id } = order;
  const files = monitorFiles(bundleDir);
  const program = commandLine(runtime, 'create', globalArgs({ ...runtime, cgroupDriver: 'cgroupfs' }, files.runtimeLog));
  return [
    '--api-version=1',
    '--cid', id,
    '--cuuid', id,
    '--name', order.name,
    '--bundle', bundleDir,
    '--exit-dir', paths.exitsDir,
    '--conmon-pidfile', files.pidFile,
    '--container-pidfile', join(bundleDir, 'pid'),
    '--socket-dir-path', paths.socketsDir,
    '--log-path', order.logPath === undefined ? 'none' : `k8s-file:${order.logPath}`,
    '--log-level', 'error',
    '--no-sync-log',
    '--runtime', program.path,
    ...program.args.flatMap((arg) => ['--runtime-arg', arg]),
    ...(runtime.cgroupDriver === 'systemd' ? ['--systemd-cgroup'] : []),
    ...(order.tty ? ['--terminal'] : []),
    ...(order.stdin ? ['--stdin', ...(order.stdinOnce ? [] : ['--leave-stdin-open'])] : []),
  ];
}

export interface Monitored {
  readonly monitor: ProcessId;
  readonly process: ProcessId;
}

/** A monitor that waits for its start byte. Disposing one that was not used ends it. */
export interface WaitingMonitor extends Disposable {
  /**
   * The bundle is complete: creates the container. Throws Fault 'internal' with the runtime's own words; what was made until then is left for
   * teardown. Once only.
   */
  create(ctx: Ctx): Promise<Monitored>;
}

/**
 * Starts a monitor in a bundle that may still be incomplete, so that the two get ready at the same time. `place` moves it where nobody who stops
 * us stops it, before it starts anything.
 */
export function startMonitor(
  paths: MonitorPaths,
  request: { runtime: OciRuntime; order: MonitorOrder; place?: ((pid: number) => Promise<void>) | undefined },
): WaitingMonitor {
  const { runtime, order } = request;
  const sync = pipe();
  const start = pipe();
  let child: Child;
  try {
    child = spawn({
      path: paths.conmon,
      args: monitorArgs(paths, runtime, order),
      cwd: order.bundleDir,
      env: { ...runtimeEnv, ...programMark(order.id), _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4' },
      fds: { 3: sync.writeFd, 4: start.readFd },
    });
  } catch (cause) {
    closeSync(sync.readFd);
    closeSync(start.writeFd);
    throw new Fault('unavailable', `start ${paths.conmon}`, cause);
  } finally {
    closeSync(sync.writeFd);
    closeSync(start.readFd);
  }
  const placed = request.place?.(child.process.pid);
  // Told by `create`; until then a failure must not count as unhandled.
  placed?.catch(() => undefined);
  let isUsed = false;
  return {
    create: async (ctx) => {
      isUsed = true;
      using _ = runtime.moves.hold();
      const message = firstLine(withTimeout(ctx, runtime.timeoutMs), sync.readFd);
      try {
        await placed;
      } catch (error) {
        child.kill('SIGKILL');
        throw error;
      } finally {
        // The end of the pipe is as good as the byte: conmon goes on after its read returns.
        closeSync(start.writeFd);
      }
      const [line, exitCode] = await Promise.all([message, child.exited]);
      return monitored(order, containerPid(line, { exitCode, runtime: runtime.name }));
    },
    [Symbol.dispose]: () => {
      if (isUsed) return;
      isUsed = true;
      // First the kill: the end of the start pipe would let it go on.
      child.kill('SIGKILL');
      closeSync(start.writeFd);
      closeSync(sync.readFd);
    },
  };
}

/** Small files that were written a moment ago, and /proc: quicker read at once than by a trip through the pool. */
function monitored(order: MonitorOrder, pid: number): Monitored {
  const monitor = identify(Number(readFileSync(monitorFiles(order.bundleDir).pidFile, 'utf8').trim()));
  const process = identify(pid);
  if (monitor === undefined || process === undefined) throw new Fault('internal', `create container ${order.id}: it was gone at once`);
  return { monitor, process };
}

/** The first line on the pipe, or what came before its end. The descriptor is closed in every case. */
function firstLine(ctx: Ctx, fd: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const stream = new Socket({ fd, readable: true, writable: false });
  let text = '';
  const finish = (): void => resolve(text.split('\n')[0] ?? '');
  // Bytes, not text: a message may hold anything that the runtime printed.
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
    if (text.includes('\n') || text.length > maxMessageBytes) finish();
  });
  stream.once('close', finish).on('error', finish);
  return unlessGivenUp(ctx, promise, 'create container: the monitor does not answer').finally(() => stream.destroy());
}

interface SyncMessage {
  readonly data: number;
  readonly message: string;
}

/** conmon's JSON is not always JSON: it escapes less than it should. Undefined when there is no number in it. */
export function parseSyncMessage(line: string): SyncMessage | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null && 'data' in value && typeof value.data === 'number') {
      return { data: value.data, message: 'message' in value && typeof value.message === 'string' ? value.message : '' };
    }
  } catch {
    // Below, by pattern.
  }
  const match = /"data":\s*(-?\d+)(?:,\s*"message":\s*"([\s\S]*?)"?\s*\}?$)?/.exec(line);
  return match === null ? undefined : { data: Number(match[1]), message: match[2] ?? '' };
}

function containerPid(line: string, failed: { exitCode: number; runtime: string }): number {
  const message = parseSyncMessage(line);
  if (message !== undefined && message.data > 0) return message.data;
  const said = message === undefined || message.message.trim() === '' ? `conmon ended with status ${failed.exitCode}` : message.message.trim();
  throw new Fault('internal', `${failed.runtime} create: ${said}`);
}

export interface ExitNote {
  readonly exitCode: number;
  readonly atNs: bigint;
}

/** What the monitor left about the end of its container; undefined while there is nothing. */
export async function readExitNote(paths: Pick<MonitorPaths, 'exitsDir'>, id: string): Promise<ExitNote | undefined> {
  const exitFile = join(paths.exitsDir, id);
  const text = (await readIfThere(exitFile))?.trim();
  if (text === undefined || !/^-?\d+$/.test(text)) return undefined;
  const { mtimeNs } = await stat(exitFile, { bigint: true });
  return { exitCode: Number(text), atNs: mtimeNs };
}

/** True when the monitor saw the kernel's OOM killer in the container's group. */
export async function sawOutOfMemory(bundleDir: string): Promise<boolean> {
  return (await readIfThere(monitorFiles(bundleDir).oomFile)) !== undefined;
}

/** One message on the control FIFO (2.1.6 takes only one per read). Fault 'precondition' when no monitor listens. */
export async function writeControl(bundleDir: string, message: string): Promise<void> {
  try {
    await using file = await open(monitorFiles(bundleDir).control, constants.O_WRONLY | constants.O_NONBLOCK);
    await file.write(message);
  } catch (cause) {
    if (isErrno(cause, 'ENXIO', 'ENOENT')) throw new Fault('precondition', 'the monitor of the container has ended', cause);
    throw cause;
  }
}

export const reopenMessage = '2 0 0\n';
export const resizeMessage = (size: { readonly columns: number; readonly rows: number }): string => `1 ${size.rows} ${size.columns}\n`;

/**
 * The container's streams. Read: one packet per piece of output, its first byte says which (`stdoutPacket`, `stderrPacket`); only what comes after
 * the connection. Write: its input. Whoever connects must read: the monitor stops everything, the container too, for a client that does not.
 * Fault 'precondition' when no monitor listens.
 */
export function connectToMonitor(bundleDir: string): SeqpacketStream {
  try {
    return connectSeqpacket(join(bundleDir, 'attach'), { longestReadBytes: 1 + 8192, longestPacketBytes: 32 * 1024 });
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ECONNREFUSED')) throw new Fault('precondition', 'the monitor of the container has ended', cause);
    if (isErrno(cause, 'EAGAIN')) throw new Fault('exhausted', 'too many are connecting to the monitor of the container', cause);
    throw cause;
  }
}

export const stdoutPacket = 2;
export const stderrPacket = 3;

/** What a monitor that has ended left outside its bundle. Absent is success. */
export async function removeMonitorFiles(paths: Pick<MonitorPaths, 'socketsDir' | 'exitsDir'>, id: string): Promise<void> {
  await Promise.all([paths.socketsDir, paths.exitsDir].map((dir) => rm(join(dir, id), { force: true })));
}
