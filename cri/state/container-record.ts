/**
 * A container as we remember it, and its state machine. Pure.
 *
 *   making ──made──▶ created ──started──▶ running ──exited──▶ exited
 *                       └────────────── exited (a start that failed, a monitor that died) ──▲
 *
 * A record that is found in `making` at start-up was interrupted: it is torn down.
 */
import type { ContainerConfig, LinuxContainerResources } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { ProcessId } from '#host/process.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { OwnedResource } from './owned-resource.ts';
import { hasShape } from './record-json.ts';

export type ContainerState =
  | { readonly name: 'making'; readonly createdAtNs: bigint }
  | { readonly name: 'created'; readonly createdAtNs: bigint }
  | { readonly name: 'running'; readonly createdAtNs: bigint; readonly startedAtNs: bigint }
  | {
      readonly name: 'exited';
      readonly createdAtNs: bigint;
      /** 0 when it never ran. */
      readonly startedAtNs: bigint;
      readonly finishedAtNs: bigint;
      readonly exitCode: number;
      /** `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`. */
      readonly reason: string;
      readonly message: string;
    };

/** What the process runs as, known once the image's passwd was read. */
export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  readonly supplementalGroups: readonly number[];
}

export interface ImageVolumeRecord {
  /** In `config.mounts`. */
  readonly mountIndex: number;
  readonly imageId: string;
  readonly layers: readonly string[];
}

export interface ContainerRecord {
  readonly version: 1;
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  /** Unique: see containerName. */
  readonly name: string;
  readonly config: ContainerConfig;
  /** `id` is the image's config digest (`sha256:…`), `ref` what the caller asked for, `layers` the chain ids below its root. */
  readonly image: { readonly id: string; readonly ref: string; readonly layers: readonly string[] };
  /** Of the mounts that are images (absent in records of older versions). */
  readonly imageVolumes?: readonly ImageVolumeRecord[];
  readonly runtimeHandler: string;
  readonly bundleDir: string;
  /** Absolute, or undefined when no log was asked for. */
  readonly logPath: string | undefined;
  /** In the notation of the cgroup driver's file system: `/kubepods/pod…/<id>`. */
  readonly cgroupPath: string;
  /** Linux signal number that asks it to stop. */
  readonly stopSignal: number;
  readonly user: ContainerUser | undefined;
  /** As created and updated since. */
  readonly resources: LinuxContainerResources | undefined;
  /** Its first process and its monitor, from `created` on. */
  readonly process: ProcessId | undefined;
  readonly monitor: ProcessId | undefined;
  readonly state: ContainerState;
  readonly owns: readonly OwnedResource[];
}

export type ContainerEvent =
  /** By plugins, before anything of it is made. */
  | { readonly type: 'adjusted'; readonly resources: LinuxContainerResources | undefined; readonly cgroupPath: string }
  | { readonly type: 'made'; readonly atNs: bigint; readonly process: ProcessId; readonly monitor: ProcessId; readonly user: ContainerUser }
  | { readonly type: 'started'; readonly atNs: bigint }
  | { readonly type: 'exited'; readonly atNs: bigint; readonly exitCode: number; readonly reason: string; readonly message: string }
  | { readonly type: 'resources-updated'; readonly resources: LinuxContainerResources };

/** Chain ids that must stay while the container does, even when their images go. */
export const layersOf = (record: Pick<ContainerRecord, 'image' | 'imageVolumes'>): string[] => [
  ...record.image.layers,
  ...(record.imageVolumes ?? []).flatMap(({ layers }) => layers),
];

const stateNames: readonly unknown[] = ['making', 'created', 'running', 'exited'] satisfies ContainerState['name'][];

/** True for what every reader takes for granted. */
export const isContainerRecord = (value: unknown): value is ContainerRecord =>
  hasShape(value, {
    id: 'string', sandboxId: 'string', name: 'string', config: 'object', image: 'object', runtimeHandler: 'string', bundleDir: 'string', cgroupPath: 'string', stopSignal: 'number',
    state: 'object', owns: 'list',
  }) &&
  value['version'] === 1 &&
  hasShape(value['state'], { name: 'string', createdAtNs: 'bigint' }) &&
  stateNames.includes(value['state']['name']);

/** The record after the event. An exit told twice changes nothing; an impossible transition is Fault internal. */
export function nextContainer(record: ContainerRecord, event: ContainerEvent): ContainerRecord {
  const { state } = record;
  switch (event.type) {
    case 'adjusted': {
      if (state.name !== 'making') throw illegal(record, event);
      const { resources, cgroupPath } = event;
      return { ...record, resources, cgroupPath, owns: record.owns.map((owned) => (owned.kind === 'cgroup' ? { ...owned, path: cgroupPath } : owned)) };
    }
    case 'made':
      if (state.name !== 'making') throw illegal(record, event);
      return { ...record, process: event.process, monitor: event.monitor, user: event.user, state: { name: 'created', createdAtNs: state.createdAtNs } };
    case 'started':
      // A short-lived process may have been seen to exit before the runtime's `start` returned.
      if (state.name === 'exited') return { ...record, state: { ...state, startedAtNs: state.startedAtNs === 0n ? earlier(event.atNs, state.finishedAtNs) : state.startedAtNs } };
      if (state.name !== 'created') throw illegal(record, event);
      return { ...record, state: { name: 'running', createdAtNs: state.createdAtNs, startedAtNs: event.atNs } };
    case 'exited': {
      if (state.name === 'exited') return record;
      const startedAtNs = state.name === 'running' ? state.startedAtNs : 0n;
      const { exitCode, reason, message } = event;
      // The end is told by the time of a file, which is a few milliseconds coarse.
      const finishedAtNs = event.atNs < startedAtNs ? startedAtNs : event.atNs;
      return { ...record, state: { name: 'exited', createdAtNs: state.createdAtNs, startedAtNs, finishedAtNs, exitCode, reason, message } };
    }
    case 'resources-updated':
      return { ...record, resources: event.resources };
    default:
      return event satisfies never;
  }
}

const earlier = (a: bigint, b: bigint): bigint => (a < b ? a : b);

const illegal = (record: ContainerRecord, event: ContainerEvent): Fault =>
  new Fault('internal', `container ${record.id}: ${event.type} while ${record.state.name}`);
