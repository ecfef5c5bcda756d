/** GetContainerEvents: what happens to records, told with the statuses of the whole pod at that moment, which save the kubelet from asking. */
import { ContainerEventResponse, ContainerEventType, type ContainerStatus, type Encoded, encoded, type PodSandboxStatus } from '#cri-api';
import { nowNs } from '#host/clock.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { ContainerStore } from '../state/container-store.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import type { SandboxStore } from '../state/sandbox-store.ts';
import type { EventHub } from './hub.ts';
import { containerEvents, sandboxEvents } from './transitions.ts';

export type CriEventHub = EventHub<Encoded<ContainerEventResponse>>;

export interface PublishDeps {
  readonly hub: Pick<CriEventHub, 'publish'>;
  readonly containers: Pick<ContainerStore, 'list' | 'onChange' | 'onDelete'>;
  readonly sandboxes: Pick<SandboxStore, 'find' | 'onChange' | 'onDelete'>;
  readonly podSandboxStatus: (sandbox: SandboxRecord) => PodSandboxStatus;
  readonly containerStatus: (container: ContainerRecord) => ContainerStatus;
}

/** From now on. What never became whole (a creation that failed) was never there. */
export function publishEvents(deps: PublishDeps): void {
  const { containers, sandboxes } = deps;
  containers.onChange((record, before) => tell(deps, { id: record.id, sandbox: sandboxes.find(record.sandboxId) }, containerEvents(before, record)));
  containers.onDelete((record) => {
    if (record.process !== undefined) tell(deps, { id: record.id, sandbox: sandboxes.find(record.sandboxId) }, [ContainerEventType.CONTAINER_DELETED_EVENT]);
  });
  sandboxes.onChange((record, before) => tell(deps, { id: record.id, sandbox: record }, sandboxEvents(before, record)));
  sandboxes.onDelete((record) => {
    if (record.state.name !== 'making') tell(deps, { id: record.id, sandbox: record }, [ContainerEventType.CONTAINER_DELETED_EVENT]);
  });
}

function tell(deps: PublishDeps, { id, sandbox }: { id: string; sandbox: SandboxRecord | undefined }, types: readonly ContainerEventType[]): void {
  if (types.length === 0) return;
  const statuses = {
    podSandboxStatus: sandbox && deps.podSandboxStatus(sandbox),
    containersStatuses: deps.containers.list().filter(({ sandboxId, state }) => sandboxId === sandbox?.id && state.name !== 'making').map(deps.containerStatus),
  };
  for (const containerEventType of types) deps.hub.publish(encoded(ContainerEventResponse, { containerId: id, containerEventType, createdAt: nowNs(), ...statuses }));
}
