/** Objects of the API → the files of a volume. */
import { Fault } from '#host/fault.ts';
import { fieldValue, resourceValue } from '../container-config/downward.ts';
import type { PodPlace } from '../container-config/downward.ts';
import { findContainer } from '../kube/pod-facts.ts';
import type { ConfigMap, Pod, Secret } from '../kube/types.ts';

export interface PayloadFile {
  readonly data: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** Owner; root when absent. */
  readonly uid?: number;
}

/** By path relative to the volume. */
export type Payload = Map<string, PayloadFile>;

interface Item {
  readonly key: string;
  readonly path: string;
  readonly mode?: number;
}

export const defaultFileMode = 0o644;

export function configMapPayload(configMap: ConfigMap | undefined, items: readonly Item[] | undefined, defaultMode: number, optional: boolean): Payload {
  const values = new Map<string, Uint8Array>();
  for (const [key, text] of Object.entries(configMap?.data ?? {})) values.set(key, Buffer.from(text));
  for (const [key, base64] of Object.entries(configMap?.binaryData ?? {})) values.set(key, Buffer.from(base64, 'base64'));
  return pick(values, items, defaultMode, optional, 'configmap references non-existent config key');
}

export function secretPayload(secret: Secret | undefined, items: readonly Item[] | undefined, defaultMode: number, optional: boolean): Payload {
  const values = new Map<string, Uint8Array>();
  for (const [key, base64] of Object.entries(secret?.data ?? {})) values.set(key, Buffer.from(base64, 'base64'));
  for (const [key, text] of Object.entries(secret?.stringData ?? {})) values.set(key, Buffer.from(text)); // manifests on a standalone node
  return pick(values, items, defaultMode, optional, 'references non-existent secret key');
}

function pick(values: ReadonlyMap<string, Uint8Array>, items: readonly Item[] | undefined, defaultMode: number, optional: boolean, missing: string): Payload {
  const payload: Payload = new Map();
  if (items === undefined || items.length === 0) {
    for (const [key, data] of values) payload.set(key, { data, mode: defaultMode });
    return payload;
  }
  for (const { key, path, mode } of items) {
    const data = values.get(key);
    if (data !== undefined) payload.set(path, { data, mode: mode ?? defaultMode });
    else if (!optional) throw new Fault('not-found', `${missing}: ${key}`);
  }
  return payload;
}

interface DownwardItem {
  readonly path: string;
  readonly mode?: number;
  readonly fieldRef?: { readonly fieldPath: string };
  readonly resourceFieldRef?: { readonly containerName?: string; readonly resource: string; readonly divisor?: string };
}

export function downwardPayload(items: readonly DownwardItem[] | undefined, pod: Pod, place: PodPlace, defaultMode: number): Payload {
  const payload: Payload = new Map();
  for (const { path, mode, fieldRef, resourceFieldRef } of items ?? []) {
    let text = '';
    if (fieldRef !== undefined) text = fieldValue(fieldRef.fieldPath, pod, place);
    else if (resourceFieldRef !== undefined) {
      const container = findContainer(pod, resourceFieldRef.containerName ?? '');
      if (container === undefined) throw new Fault('invalid', `container ${resourceFieldRef.containerName ?? ''} not found`);
      text = resourceValue(resourceFieldRef, container, place);
    }
    payload.set(path, { data: Buffer.from(text), mode: mode ?? defaultMode });
  }
  return payload;
}

/** The one user that every container runs as; undefined when they differ or leave it to the image. Source: kubelet pkg/volume/util FsUserFrom. */
export function onlyUser(pod: Pod): number | undefined {
  const { containers = [], initContainers = [], securityContext } = pod.spec ?? {};
  const users = new Set([...initContainers, ...containers].map((container) => container.securityContext?.runAsUser ?? securityContext?.runAsUser));
  const [user] = users;
  return users.size === 1 ? user : undefined;
}
