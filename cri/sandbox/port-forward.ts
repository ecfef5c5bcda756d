/** PortForward: one TCP connection to localhost inside the network namespace of a sandbox, and the bytes between it and the client. */
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { getSystemErrorMessage } from 'node:util';
import { NamespaceMode } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { SyscallError } from '#host/errno.ts';
import { Fault } from '#host/fault.ts';
import { connectLoopback } from '#host/loopback.ts';
import { namespacePath } from '#host/namespaces.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';

export interface PortForwardRequest {
  readonly sandboxId: string;
  readonly port: number;
}

/**
 * Until both directions have ended, each by itself: an end is passed on and does not touch the other direction. Fault 'invalid' for a port that is
 * none, 'precondition' when the sandbox is not ready, 'unavailable' when nobody listens or the connection broke, 'canceled' when `ctx` ended.
 */
export async function portForward(ctx: Ctx, deps: { sandboxes: Pick<SandboxStore, 'get'> }, request: PortForwardRequest, client: Duplex): Promise<void> {
  const { port } = request;
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Fault('invalid', `port ${port} is not between 1 and 65535`);
  const sandbox = deps.sandboxes.get(request.sandboxId);
  if (sandbox.state.name !== 'ready') throw new Fault('precondition', `sandbox ${sandbox.id} is not ready`);
  const server = await connect(ctx, sandbox, port);
  try {
    await Promise.all([pipeline(client, server, { signal: ctx.signal }), pipeline(server, client, { signal: ctx.signal })]);
  } catch (cause) {
    throw new Fault(ctx.signal.aborted ? 'canceled' : 'unavailable', `connection to localhost:${port} inside namespace ${JSON.stringify(sandbox.id)} broke`, cause);
  } finally {
    server.destroy();
  }
}

/** An application may listen on one of the two only; the older first, as containerd does. */
async function connect(ctx: Ctx, sandbox: SandboxRecord, port: number): Promise<Socket> {
  const isHostNetwork = sandbox.config.linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE;
  const path = isHostNetwork ? undefined : namespacePath(sandbox.namespacesDir, 'net');
  const failures: string[] = [];
  for (const family of [4, 6] as const) {
    try {
      return await connectLoopback(ctx, { family, port, namespacePath: path });
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      failures.push(getSystemErrorMessage(-error.errno) ?? error.code);
    }
  }
  const [first, second] = failures;
  throw new Fault('unavailable', `failed to connect to localhost:${port} inside namespace ${JSON.stringify(sandbox.id)}: ${first === second ? first : `IPv4: ${first}, IPv6: ${second}`}`);
}
