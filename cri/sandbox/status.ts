/** ListPodSandbox and PodSandboxStatus: records → CRI messages. Pure. */
import { PodSandboxState, type PodSandbox, type PodSandboxFilter, type PodSandboxStatus } from '#cri-api';
import { stringifyInfo } from '../state/record-json.ts';
import { hasLabels } from '../state/labels.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';

const stateOf = (record: SandboxRecord): PodSandboxState =>
  record.state.name === 'ready' ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;

/** A sandbox that is still being made is not shown: it may yet fail. */
export const isVisible = (record: SandboxRecord): boolean => record.state.name !== 'making';

/** The fields of a filter are ANDed; empty ones match everything; an id may be a prefix. */
export const matchesFilter = (record: SandboxRecord, filter: PodSandboxFilter | undefined): boolean =>
  isVisible(record) &&
  (filter === undefined ||
    (record.id.startsWith(filter.id) &&
      (filter.state === undefined || filter.state.state === stateOf(record)) &&
      hasLabels(record.config.labels, filter.labelSelector)));

export const podSandbox = (record: SandboxRecord): PodSandbox => ({
  id: record.id,
  metadata: record.config.metadata,
  state: stateOf(record),
  createdAt: record.createdAtNs,
  labels: record.config.labels,
  annotations: record.config.annotations,
  runtimeHandler: record.runtimeHandler,
});

export function podSandboxStatus(record: SandboxRecord): PodSandboxStatus {
  const [ip = '', ...others] = record.ips;
  return {
    ...podSandbox(record),
    network: { ip, additionalIps: others.map((other) => ({ ip: other })) },
    linux: { namespaces: { options: record.config.linux?.securityContext?.namespaceOptions } },
  };
}

/** What operators look for with `crictl inspectp`; keys as containerd's. */
export const podSandboxInfo = (record: SandboxRecord): Record<string, string> => ({
  info: stringifyInfo({
    sandboxID: record.id,
    pid: record.init?.pid ?? 0,
    namespacesDir: record.namespacesDir,
    runtimeHandler: record.runtimeHandler,
    cniResult: record.cniResult,
    config: record.config,
  }),
});
