/** ListContainers: records → CRI messages. Pure. */
import { ContainerState, type Container, type ContainerFilter } from '#cri-api';
import type { ContainerRecord } from '../state/container-record.ts';

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

const hasLabels = (labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean =>
  Object.entries(wanted).every(([key, value]) => labels[key] === value);

/** The fields of a filter are ANDed; empty ones match everything; ids may be prefixes. */
const matchesFilter = (record: ContainerRecord, filter: ContainerFilter | undefined): boolean =>
  isVisible(record) &&
  (filter === undefined ||
    (record.id.startsWith(filter.id) &&
      record.sandboxId.startsWith(filter.podSandboxId) &&
      (filter.state === undefined || filter.state.state === criState(record)) &&
      hasLabels(record.config.labels, filter.labelSelector)));

const criContainer = (record: ContainerRecord, repoDigestOf: RepoDigestOf): Container => ({
  id: record.id,
  podSandboxId: record.sandboxId,
  metadata: record.config.metadata,
  image: record.config.image,
  imageRef: repoDigestOf(record.image.id) ?? record.image.id,
  imageId: record.image.id,
  state: criState(record),
  createdAt: record.state.createdAtNs,
  labels: record.config.labels,
  annotations: record.config.annotations,
});

export const listContainers = (records: readonly ContainerRecord[], filter: ContainerFilter | undefined, repoDigestOf: RepoDigestOf): Container[] =>
  records.filter((record) => matchesFilter(record, filter)).map((record) => criContainer(record, repoDigestOf));
