/**
 * The namespaces of a pod that has a user namespace of its own. A process with several threads cannot enter a new user namespace, so a short-lived
 * child does: util-linux' unshare makes all of them in one call, so that the user namespace owns the others, and waits as `cat`.
 *
 *   spawn ──echo──▶ inside ──uid_map, gid_map──▶ ids are mapped ──bind /proc/PID/ns/*──▶ pinned ──end of its stdin──▶ gone        (4 ms)
 */
import { closeSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { type Ctx, withTimeout } from './ctx.ts';
import { type Child, findProgram, runChecked, spawn } from './exec.ts';
import { Fault } from './fault.ts';
import { unlessGivenUp } from './give-up.ts';
import { type IdMappings, mapText } from './id-mapping.ts';
import { mountSync, pipe } from './libc.ts';
import { MS_BIND } from './mount-flags.ts';
import {
  furnish, inNamespaces, makePinTargets, type NamespaceKind, namespacePath, type PinKind, type PinRequest, sysctlPath, unpinNamespaces,
} from './namespaces.ts';

export interface UserPinRequest extends PinRequest {
  readonly mappings: IdMappings;
}

const childTimeoutMs = 10_000;

/** As pinNamespaces, with a pin `user` more, which owns the others. After a failure nothing is pinned and the directory is gone. */
export async function pinUserNamespaces(ctx: Ctx, request: UserPinRequest): Promise<void> {
  const { dir, kinds } = request;
  const pins: readonly PinKind[] = ['user', ...kinds];
  makePinTargets(dir, pins);
  try {
    await using child = await childInside(ctx, pins);
    writeFileSync(`/proc/${child.pid}/uid_map`, mapText(request.mappings.uids));
    writeFileSync(`/proc/${child.pid}/gid_map`, mapText(request.mappings.gids));
    for (const kind of pins) mountSync({ source: `/proc/${child.pid}/ns/${kind}`, target: namespacePath(dir, kind), type: null, flags: MS_BIND, data: null });
    const { own, ipc } = bySysctlOwner(request.sysctls ?? {});
    inNamespaces(kinds.map((kind): [NamespaceKind, string] => [kind, namespacePath(dir, kind)]), () => furnish({ ...request, sysctls: own }));
    for (const [name, value] of ipc) await writeAsRoot(ctx, dir, { name, value });
  } catch (error) {
    unpinNamespaces(dir);
    throw error;
  }
}

/** A process in new namespaces of these kinds, gone when disposed. */
async function childInside(ctx: Ctx, kinds: readonly PinKind[]): Promise<AsyncDisposable & { readonly pid: number }> {
  const input = pipe();
  const output = pipe();
  let child: Child;
  try {
    const fds = { 0: input.readFd, 1: output.writeFd, 2: output.writeFd };
    child = spawn({ path: await needed('unshare'), args: [...kinds.map((kind) => `--${kind}`), 'cat'], fds });
  } catch (error) {
    closeSync(input.writeFd);
    closeSync(output.readFd);
    throw error;
  } finally {
    closeSync(input.readFd);
    closeSync(output.writeFd);
  }
  const stdin = new Socket({ fd: input.writeFd, readable: false, writable: true }).on('error', () => stdin.destroy());
  const stop = async (): Promise<void> => {
    stdin.destroy();
    child.kill('SIGKILL');
    await child.exited;
  };
  stdin.write('\n');
  const echo = await firstOutput(withTimeout(ctx, childTimeoutMs), output.readFd).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  if (echo === '\n') return { pid: child.process.pid, [Symbol.asyncDispose]: stop };
  await stop();
  throw new Fault('precondition', `cannot make a user namespace: ${echo.trim() || 'unshare ended'}`);
}

function firstOutput(ctx: Ctx, fd: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const stream = new Socket({ fd, readable: true, writable: false });
  stream.once('data', (chunk: Buffer) => resolve(chunk.toString('utf8')));
  stream.once('error', reject);
  stream.once('close', () => resolve(''));
  return unlessGivenUp(ctx, promise).finally(() => stream.destroy());
}

async function needed(program: string): Promise<string> {
  const path = await findProgram(program);
  if (path === undefined) throw new Fault('precondition', `${program} is not installed: it comes with util-linux`);
  return path;
}

/** The kernel lets only the root of the namespace itself write the ones of ipc; those of the network anybody who has its capabilities. */
function bySysctlOwner(sysctls: Readonly<Record<string, string>>): { own: Record<string, string>; ipc: [string, string][] } {
  const entries = Object.entries(sysctls);
  const isOfNetwork = ([name]: [string, string]): boolean => /^net[./]/.test(name);
  return { own: Object.fromEntries(entries.filter(isOfNetwork)), ipc: entries.filter((entry) => !isOfNetwork(entry)) };
}

async function writeAsRoot(ctx: Ctx, dir: string, sysctl: { name: string; value: string }): Promise<void> {
  const pins = (['user', 'ipc'] as const).map((kind) => `--${kind}=${namespacePath(dir, kind)}`);
  try {
    await runChecked(withTimeout(ctx, childTimeoutMs), { path: await needed('nsenter'), args: [...pins, 'tee', sysctlPath(sysctl.name)], stdin: sysctl.value });
  } catch (error) {
    throw new Fault('invalid', `sysctl ${sysctl.name}=${sysctl.value}: the kernel refuses it`, error);
  }
}
