/** What the CRI asks a stream for, checked. Pure. Source of the rules: CRI api.proto, ExecRequest and AttachRequest; k8s.io/cri-streaming, server.go. */
import type { AttachRequest, ExecRequest, PortForwardRequest } from '#cri-api';
import { Fault } from '#host/fault.ts';

interface ProcessStreams {
  readonly containerId: string;
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

export type ProcessRequest = (ProcessStreams & { readonly kind: 'exec'; readonly command: readonly string[] }) | (ProcessStreams & { readonly kind: 'attach' });

export interface PortsRequest {
  readonly kind: 'portforward';
  readonly sandboxId: string;
  /** Of the old WebSocket protocol only; else each stream names its own. */
  readonly ports: readonly number[];
}

export type StreamRequest = ProcessRequest | PortsRequest;

/** Each port takes two channels of a byte. */
const maxPorts = 100;

export function execRequest(request: ExecRequest): ProcessRequest {
  if (request.cmd.length === 0) throw new Fault('invalid', 'cmd: is empty');
  return { kind: 'exec', command: request.cmd, ...processStreams(request) };
}

export const attachRequest = (request: AttachRequest): ProcessRequest => ({ kind: 'attach', ...processStreams(request) });

export function portsRequest(request: PortForwardRequest): PortsRequest {
  if (request.podSandboxId === '') throw new Fault('invalid', 'pod_sandbox_id: is missing');
  if (request.port.length > maxPorts) throw new Fault('invalid', `port: at most ${maxPorts} in one request`);
  const bad = request.port.find((port) => port < 1 || port > 0xffff);
  if (bad !== undefined) throw new Fault('invalid', `port: ${bad} is no port`);
  return { kind: 'portforward', sandboxId: request.podSandboxId, ports: request.port };
}

function processStreams(request: Omit<AttachRequest, 'containerId'> & { readonly containerId: string }): ProcessStreams {
  const { containerId, tty, stdin, stdout, stderr } = request;
  if (containerId === '') throw new Fault('invalid', 'container_id: is missing');
  if (tty && stderr) throw new Fault('invalid', 'tty and stderr cannot both be true: a terminal has one output');
  if (!stdin && !stdout && !stderr) throw new Fault('invalid', 'one of stdin, stdout and stderr must be true');
  return { containerId, tty, stdin, stdout, stderr };
}
