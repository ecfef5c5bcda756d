/** Changes of records → events of the CRI. A sandbox's events bear its id in place of a container's, as containerd's do. Pure. */
import { ContainerEventType } from '#cri-api';
import type { ContainerRecord } from '../state/container-record.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';

const { CONTAINER_CREATED_EVENT: created, CONTAINER_STARTED_EVENT: started, CONTAINER_STOPPED_EVENT: stopped } = ContainerEventType;

const ofContainer = { making: [], created: [created], running: [started], exited: [stopped] } as const satisfies Record<ContainerRecord['state']['name'], readonly ContainerEventType[]>;
/** A sandbox runs as soon as it is there. */
const ofSandbox = { making: [], ready: [created, started], 'not-ready': [stopped] } as const satisfies Record<SandboxRecord['state']['name'], readonly ContainerEventType[]>;

export const containerEvents = (before: ContainerRecord | undefined, after: ContainerRecord): readonly ContainerEventType[] =>
  before?.state.name === after.state.name ? [] : ofContainer[after.state.name];

export const sandboxEvents = (before: SandboxRecord | undefined, after: SandboxRecord): readonly ContainerEventType[] =>
  before?.state.name === after.state.name ? [] : ofSandbox[after.state.name];
