/** The environment of a container: service variables, envFrom, then env, each seeing what came before. */
import { Fault } from '#host/fault.ts';
import type { ConfigMap, Container, Pod, Secret } from '../kube/types.ts';
import { fieldValue, resourceValue, type PodPlace } from './downward.ts';
import { expand } from './expand.ts';

export interface EnvSources {
  /** By name, in the pod's namespace; absent = there is no such object. */
  readonly configMaps: ReadonlyMap<string, ConfigMap>;
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly place: PodPlace;
  /** Variables of the services the pod may see. */
  readonly services: ReadonlyMap<string, string>;
}

/** Which objects `environment` will want, so that they can be fetched before. */
export function envReferences(container: Container): { configMaps: Set<string>; secrets: Set<string> } {
  const configMaps = new Set<string>();
  const secrets = new Set<string>();
  const add = (names: Set<string>, name: string | undefined): void => {
    if (name !== undefined && name !== '') names.add(name);
  };
  for (const source of container.envFrom ?? []) {
    add(configMaps, source.configMapRef?.name);
    add(secrets, source.secretRef?.name);
  }
  for (const { valueFrom } of container.env ?? []) {
    add(configMaps, valueFrom?.configMapKeyRef?.name);
    add(secrets, valueFrom?.secretKeyRef?.name);
  }
  return { configMaps, secrets };
}

/** Later ones win. Throws Fault with the kubelet's message when an object or key that is not optional is missing. */
export function environment(pod: Pod, container: Container, sources: EnvSources): Map<string, string> {
  const result = new Map<string, string>();
  for (const from of container.envFrom ?? []) for (const [name, value] of valuesFrom(pod, from, sources)) result.set(name, value);
  for (const variable of container.env ?? []) {
    const value =
      variable.valueFrom === undefined
        ? expand(variable.value ?? '', new Map([...sources.services, ...result]))
        : variableValue(pod, container, variable.valueFrom, sources);
    if (value !== undefined) result.set(variable.name, value);
  }
  for (const [name, value] of sources.services) if (!result.has(name)) result.set(name, value);
  return result;
}

type EnvFrom = NonNullable<Container['envFrom']>[number];
type ValueFrom = NonNullable<NonNullable<Container['env']>[number]['valueFrom']>;

const decode = (base64: string): string => Buffer.from(base64, 'base64').toString('utf8');

/** Since 1.34 any printable ASCII but `=` may be in a name; others are left out. */
const isVariableName = (name: string): boolean => /^[ -<>-~]+$/.test(name);

function valuesFrom(pod: Pod, from: EnvFrom, sources: EnvSources): [string, string][] {
  const prefix = from.prefix ?? '';
  let data: [string, string][] = [];
  if (from.configMapRef !== undefined) {
    const map = sources.configMaps.get(from.configMapRef.name ?? '');
    if (map === undefined && from.configMapRef.optional !== true) throw missing('configmap', from.configMapRef.name, pod);
    data = Object.entries(map?.data ?? {});
  } else if (from.secretRef !== undefined) {
    const secret = sources.secrets.get(from.secretRef.name ?? '');
    if (secret === undefined && from.secretRef.optional !== true) throw missing('secret', from.secretRef.name, pod);
    data = secretEntries(secret);
  }
  return data.map(([key, value]): [string, string] => [prefix + key, value]).filter(([name]) => isVariableName(name));
}

/** Undefined: the variable is not set at all (an optional reference that leads nowhere). */
function variableValue(pod: Pod, container: Container, from: ValueFrom, sources: EnvSources): string | undefined {
  const namespace = pod.metadata?.namespace ?? 'default';
  if (from.fieldRef !== undefined) return fieldValue(from.fieldRef.fieldPath, pod, sources.place);
  if (from.resourceFieldRef !== undefined) return resourceValue(from.resourceFieldRef, namedContainer(pod, container, from.resourceFieldRef.containerName), sources.place);
  if (from.configMapKeyRef !== undefined) {
    const { name, key, optional } = from.configMapKeyRef;
    const map = sources.configMaps.get(name ?? '');
    const value = map?.data?.[key];
    if (value !== undefined || optional === true) return value;
    throw map === undefined ? missing('configmap', name, pod) : new Fault('not-found', `couldn't find key ${key} in ConfigMap ${namespace}/${name ?? ''}`);
  }
  if (from.secretKeyRef !== undefined) {
    const { name, key, optional } = from.secretKeyRef;
    const secret = sources.secrets.get(name ?? '');
    const value = secretEntries(secret).find(([found]) => found === key)?.[1];
    if (value !== undefined || optional === true) return value;
    throw secret === undefined ? missing('secret', name, pod) : new Fault('not-found', `couldn't find key ${key} in Secret ${namespace}/${name ?? ''}`);
  }
  throw new Fault('invalid', `container ${container.name}: a valueFrom of this kind is not supported`);
}

function namedContainer(pod: Pod, self: Container, name: string | undefined): Container {
  if (name === undefined || name === '' || name === self.name) return self;
  const found = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].find((container) => container.name === name);
  if (found === undefined) throw new Fault('not-found', `container ${name} not found`);
  return found;
}

const secretEntries = (secret: Secret | undefined): [string, string][] => [
  ...Object.entries(secret?.data ?? {}).map(([key, value]): [string, string] => [key, decode(value)]),
  ...Object.entries(secret?.stringData ?? {}),
];

/** The API server's words, which is where the kubelet has them from. */
const missing = (kind: 'configmap' | 'secret', name: string | undefined, pod: Pod): Fault =>
  new Fault('not-found', name === undefined || name === '' ? `${kind} reference without a name in pod ${pod.metadata?.name ?? ''}` : `${kind} "${name}" not found`);
