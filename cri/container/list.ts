/** ListContainers: records → CRI messages. */
import { Container, type ContainerFilter, ContainerState, type Encoded, encoded } from '#cri-api';
import type { ContainerRecord } from '../state/container-record.ts';
import { hasLabels } from '../state/labels.ts';

/** What an image is called, and by which digest it came, while it is in the store. */
export type RepoDigestOf = (imageId: string) => string | undefined;

const stateOf = {
  making: ContainerState.CONTAINER_UNKNOWN,
  created: ContainerState.CONTAINER_CREATED,
  running: ContainerState.CONTAINER_RUNNING,
  exited: ContainerState.CONTAINER_EXITED,
} as const;

export const criState = (record: ContainerRecord): ContainerState => stateOf[record.state.name];

/** A container that is still being made is not shown: it may yet fail. */
const isVisible = (record: ContainerRecord): boolean => record.state.name !== 'making';

/** The fields of a filter are ANDed; empty ones match everything; ids may be prefixes. */
const matchesFilter = (record: ContainerRecord, filter: ContainerFilter | undefined): boolean =>
  isVisible(record) &&
  (filter === undefined ||
    (record.id.startsWith(filter.id) &&
      record.sandboxId.startsWith(filter.podSandboxId) &&
      (filter.state === undefined || filter.state.state === criState(record)) &&
      hasLabels(record.config.labels, filter.labelSelector)));

const imageRefOf = (record: ContainerRecord, repoDigestOf: RepoDigestOf): string => repoDigestOf(record.image.id) ?? record.image.id;

const criContainer = (record: ContainerRecord, imageRef: string): Container => ({
  id: record.id,
  podSandboxId: record.sandboxId,
  metadata: record.config.metadata,
  image: record.config.image,
  imageRef,
  imageId: record.image.id,
  state: criState(record),
  createdAt: record.state.createdAtNs,
  labels: record.config.labels,
  annotations: record.config.annotations,
});

/** `show` makes the answer of each record that the filter fits. */
export const listContainers = <Shown>(records: readonly ContainerRecord[], filter: ContainerFilter | undefined, show: (record: ContainerRecord) => Shown): Shown[] =>
  records.filter((record) => matchesFilter(record, filter)).map(show);

/** Makes the message of a record in wire form, and keeps it until the record or the digest of its image is another. */
export function containerEncoder(repoDigestOf: RepoDigestOf): (record: ContainerRecord) => Encoded<Container> {
  const kept = new WeakMap<ContainerRecord, { readonly imageRef: string; readonly message: Encoded<Container> }>();
  return (record) => {
    const imageRef = imageRefOf(record, repoDigestOf);
    const last = kept.get(record);
    if (last?.imageRef === imageRef) return last.message;
    const message = encoded(Container, criContainer(record, imageRef));
    kept.set(record, { imageRef, message });
    return message;
  };
}
