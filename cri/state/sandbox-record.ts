/**
 * A pod sandbox as we remember it, and its state machine. Pure.
 *
 *   making ──made──▶ ready ──stopped──▶ not-ready ──emptied──▶ not-ready, owning nothing
 *
 * Without a pause process a sandbox is ready because its namespaces are pinned and its network is attached, not because something runs;
 * only a sandbox with a pid namespace of its own has an init, whose death makes it not ready.
 */
import { type LinuxContainerResources, LinuxPodSandboxConfig, type PodSandboxConfig } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { ProcessId } from '#host/process.ts';
import type { SandboxId } from './ids.ts';
import type { OwnedResource } from './owned-resource.ts';
import { hasShape } from './record-json.ts';

/** Every pod with a network of its own has one interface from CNI, under the name that the field expects. */
export const podInterface = 'eth0';

export interface SandboxRecord {
  readonly version: 1;
  readonly id: SandboxId;
  /** Unique: see sandboxName. */
  readonly name: string;
  readonly config: PodSandboxConfig;
  /** As asked for: '' is the default handler. */
  readonly runtimeHandler: string;
  readonly createdAtNs: bigint;
  readonly dir: string;
  /** Files named net, ipc and uts, as far as the pod has its own. */
  readonly namespacesDir: string;
  readonly hostname: string;
  /** Of its SELinux labels; absent where SELinux is off. */
  readonly selinuxLevel?: string;
  /** First is primary; empty with the host's network. */
  readonly ips: readonly string[];
  /** The CNI result as the last plugin printed it. */
  readonly cniResult: unknown;
  /** The pod's init when it has a pid namespace of its own. */
  readonly init: ProcessId | undefined;
  readonly state: { readonly name: 'making' } | { readonly name: 'ready' } | { readonly name: 'not-ready' };
  readonly owns: readonly OwnedResource[];
}

export type SandboxEvent =
  | { readonly type: 'network-attached'; readonly ips: readonly string[]; readonly cniResult: unknown }
  | { readonly type: 'init-started'; readonly init: ProcessId }
  | { readonly type: 'made' }
  | { readonly type: 'resources-updated'; readonly overhead: LinuxContainerResources | undefined; readonly resources: LinuxContainerResources | undefined }
  | { readonly type: 'stopped' }
  | { readonly type: 'emptied' };

const stateNames: readonly unknown[] = ['making', 'ready', 'not-ready'] satisfies SandboxRecord['state']['name'][];

/** True for what every reader takes for granted. */
export const isSandboxRecord = (value: unknown): value is SandboxRecord =>
  hasShape(value, {
    id: 'string', name: 'string', config: 'object', runtimeHandler: 'string', createdAtNs: 'bigint', dir: 'string', namespacesDir: 'string', hostname: 'string', ips: 'list',
    state: 'object', owns: 'list',
  }) &&
  value['version'] === 1 &&
  hasShape(value['state'], { name: 'string' }) &&
  stateNames.includes(value['state']['name']);

/** The record after the event; a stop told twice changes nothing. Between `stopped` and `emptied` what it owns is being undone. */
export function nextSandbox(record: SandboxRecord, event: SandboxEvent): SandboxRecord {
  switch (event.type) {
    case 'network-attached':
      if (record.state.name !== 'making') throw illegal(record, event);
      return { ...record, ips: event.ips, cniResult: event.cniResult };
    case 'init-started':
      if (record.state.name !== 'making') throw illegal(record, event);
      return { ...record, init: event.init };
    case 'made':
      if (record.state.name !== 'making') throw illegal(record, event);
      return { ...record, state: { name: 'ready' } };
    case 'resources-updated': {
      const { overhead, resources } = event;
      return { ...record, config: { ...record.config, linux: { ...(record.config.linux ?? LinuxPodSandboxConfig.create()), overhead, resources } } };
    }
    case 'stopped':
      return record.state.name === 'not-ready' ? record : { ...record, state: { name: 'not-ready' } };
    case 'emptied':
      if (record.state.name !== 'not-ready') throw illegal(record, event);
      return { ...record, owns: [] };
    default:
      return event satisfies never;
  }
}

const illegal = (record: SandboxRecord, event: SandboxEvent): Fault => new Fault('internal', `sandbox ${record.id}: ${event.type} while ${record.state.name}`);
