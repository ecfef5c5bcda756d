/** The user namespace of a pod: what of CRI's options nodelet takes, and the same for its containers and their mounts. */
import { type IDMapping, NamespaceMode, type NamespaceOption } from '#cri-api';
import { Fault } from '#host/fault.ts';
import type { IdMapping, IdMappings } from '#host/id-mapping.ts';
import type { OciIdMapping } from '../oci/spec-types.ts';

const idLimit = 2 ** 32;

/**
 * Undefined means the host's. One mapping each that starts at id 0, as the kubelet gives; the pod has its own ipc and pids, for the kernel lets the root of
 * a user namespace mount /proc and /dev/mqueue of those alone that it owns. Fault 'invalid' names the field.
 */
export function userMappings(options: NamespaceOption | undefined): IdMappings | undefined {
  const asked = options?.usernsOptions;
  if (asked === undefined || asked.mode === NamespaceMode.NODE) return undefined;
  const invalid = (why: string): Fault => new Fault('invalid', `namespace_options.userns_options: ${why}`);
  if (asked.mode !== NamespaceMode.POD) throw invalid('mode must be POD or NODE');
  const foreign = (['ipc', 'pid'] as const).find((kind) => options?.[kind] === NamespaceMode.NODE);
  if (foreign !== undefined) throw invalid(`a pod with the host's ${foreign} cannot have a user namespace of its own`);
  const checked = (name: string, mappings: readonly IDMapping[]): IdMapping[] => {
    const [first, ...others] = mappings;
    if (first === undefined || others.length > 0) throw invalid(`${name}: there must be one mapping, not ${mappings.length}`);
    if (first.containerId !== 0) throw invalid(`${name}: container id 0 is not mapped`);
    if (first.length === 0 || first.hostId + first.length > idLimit) throw invalid(`${name}: length ${first.length} from ${first.hostId} on is not a range of ids`);
    return [{ containerId: 0, hostId: first.hostId, size: first.length }];
  };
  return { uids: checked('uids', asked.uids), gids: checked('gids', asked.gids) };
}

const text = (mappings: IdMappings | undefined): string => JSON.stringify(mappings ?? null);

/** A container is in its pod's user namespace: Fault 'invalid' when its config says another. */
export function assertSameMappings(container: NamespaceOption | undefined, sandbox: NamespaceOption | undefined): void {
  // Silence means the pod's; kubelets before 1.25 say nothing at all.
  if (container?.usernsOptions === undefined) return;
  if (text(userMappings(container)) !== text(userMappings(sandbox))) throw new Fault('invalid', "namespace_options.userns_options: differ from the sandbox's");
}

export const ociMappings = (mappings: readonly IdMapping[]): OciIdMapping[] =>
  mappings.map(({ containerId, hostId, size }) => ({ containerID: containerId, hostID: hostId, size }));

/** Of a CRI mount. */
export const criMappings = (mappings: readonly IDMapping[]): OciIdMapping[] =>
  mappings.map(({ containerId, hostId, length }) => ({ containerID: containerId, hostID: hostId, size: length }));
