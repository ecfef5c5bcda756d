/** A CRI server on a private socket, whoever made it: what the tests of the contract run against. E2E_CRI=containerd chooses the reference. */
import { startContainerd } from './containerd.ts';
import { startNodelet } from './nodelet.ts';
import type { Need } from './tools.ts';

export interface CriServer {
  readonly name: 'nodelet' | 'containerd';
  /** Path of the socket; crictl and the kubelet want `unix://` before it. */
  readonly socket: string;
  /** Everything this server keeps is below this folder. */
  readonly dir: string;
  /** containerd-format registry hosts (HOST/hosts.toml); empty unless `registry` was given. */
  readonly certsDir: string;
  readonly logFile: string;
  readonly pid: number | undefined;
  /** The daemon ends, its containers stay. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Again, on the same folders. */
  start(): Promise<void>;
  /** Ends the daemon and removes everything it ever made, running pods included. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface CriOptions {
  /** Writes the registry host files that make this server pull from it, e.g. `registry.writeHosts`. */
  readonly writeHosts?: (certsDir: string) => Promise<void>;
  /** Default: containerd takes our runc, nodelet what works here. */
  readonly runtime?: 'runc' | 'crun';
  /** Written over the server's own configuration (nodelet: the `cri` section). */
  readonly config?: Readonly<Record<string, unknown>>;
}

const wantedCri = (): CriServer['name'] => (process.env['E2E_CRI'] === 'containerd' ? 'containerd' : 'nodelet');

/** What `needs` must be told for the server that `startCri` will start. */
export const criNeeds = (): readonly Need[] => (wantedCri() === 'containerd' ? ['root', 'cri'] : ['root', 'bundle', 'cri', 'conmon']);

export async function startCri(options: CriOptions = {}): Promise<CriServer> {
  return wantedCri() === 'containerd' ? await startContainerd(options) : await startNodelet({ mode: 'cri', ...options });
}
