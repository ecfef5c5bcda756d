/** All containers. */
import { type ContainerEvent, type ContainerRecord, isContainerRecord, nextContainer } from './container-record.ts';
import type { ContainerId } from './ids.ts';
import { RecordStore } from './record-store.ts';

export type ContainerStore = RecordStore<ContainerId, ContainerRecord, ContainerEvent>;
export const containerStore = (dir: string): ContainerStore => new RecordStore({ dir, noun: 'container', next: nextContainer, isWhole: isContainerRecord });
