/** A pod out of a file: what is wrong with it, and what the API server would have filled in. Pure. */
import { createHash } from 'node:crypto';
import { defaultPullPolicy, parseImageName } from '../image/pull-policy.ts';
import { explain } from '#host/fault.ts';
import { configHashAnnotation, configSourceAnnotation } from '../kube/pod-facts.ts';
import type { Container, Pod } from '../kube/types.ts';

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const subdomain = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

const choices: readonly [field: 'restartPolicy' | 'dnsPolicy', values: readonly string[]][] = [
  ['restartPolicy', ['Always', 'OnFailure', 'Never']],
  ['dnsPolicy', ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']],
];

/** What the types cannot say: required fields, names, references inside the pod. */
export function podProblem(pod: Pod): string | undefined {
  const name = pod.metadata?.name;
  if (name === undefined || name === '') return 'metadata.name: is missing';
  if (!subdomain.test(name)) return `metadata.name: ${JSON.stringify(name)} is no name (lower case letters, digits, '-' and '.')`;
  const namespace = pod.metadata?.namespace;
  if (namespace !== undefined && !label.test(namespace)) return `metadata.namespace: ${JSON.stringify(namespace)} is no namespace`;
  for (const [field, values] of choices) {
    const value = pod.spec?.[field];
    if (value !== undefined && !values.includes(value)) return `spec.${field}: must be one of ${values.join(', ')}, not ${JSON.stringify(value)}`;
  }
  if ((pod.spec?.containers ?? []).length === 0) return 'spec.containers: at least one container is needed';
  const volumes = new Set((pod.spec?.volumes ?? []).map((volume) => volume.name));
  const seen = new Set<string>();
  for (const list of ['initContainers', 'containers'] as const) {
    for (const [index, container] of (pod.spec?.[list] ?? []).entries()) {
      const problem = containerProblem(container, seen, volumes);
      if (problem !== undefined) return `spec.${list}[${index}].${problem}`;
      seen.add(container.name);
    }
  }
  return undefined;
}

function containerProblem(container: Container, seen: ReadonlySet<string>, volumes: ReadonlySet<string>): string | undefined {
  const { name, image, volumeMounts = [], ports = [], env = [], imagePullPolicy } = container;
  if (typeof name !== 'string' || !label.test(name)) return `name: ${JSON.stringify(name ?? '')} is no container name (lower case letters, digits and '-')`;
  if (seen.has(name)) return `name: ${JSON.stringify(name)} is used twice`;
  if (image === undefined || image === '') return 'image: is missing';
  try {
    parseImageName(image);
  } catch (error) {
    return `image: ${explain(error)}`;
  }
  if (imagePullPolicy !== undefined && !['Always', 'IfNotPresent', 'Never'].includes(imagePullPolicy)) return `imagePullPolicy: must be one of Always, IfNotPresent, Never, not ${JSON.stringify(imagePullPolicy)}`;
  for (const [index, mount] of volumeMounts.entries()) {
    if (mount.mountPath === undefined || mount.mountPath === '') return `volumeMounts[${index}].mountPath: is missing`;
    if (!volumes.has(mount.name)) return `volumeMounts[${index}].name: there is no volume ${JSON.stringify(mount.name ?? '')} in spec.volumes`;
  }
  for (const [index, { containerPort }] of ports.entries()) {
    if (!Number.isInteger(containerPort) || containerPort < 1 || containerPort > 65_535) return `ports[${index}].containerPort: must be a port from 1 to 65535`;
  }
  for (const [index, variable] of env.entries()) if (variable.name === undefined || variable.name === '') return `env[${index}].name: is missing`;
  return undefined;
}

function containerWithDefaults(container: Container, hostNetwork: boolean): Container {
  const limits = container.resources?.limits;
  return {
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    imagePullPolicy: defaultPullPolicy(container.image ?? ''),
    ...container,
    ...(container.ports !== undefined && {
      ports: container.ports.map((port) => ({ protocol: 'TCP', ...port, ...(hostNetwork && { hostPort: port.hostPort ?? port.containerPort }) })),
    }),
    ...(limits !== undefined && { resources: { ...container.resources, requests: { ...limits, ...container.resources?.requests } } }),
  };
}

/** `file` is part of the identity: the same pod in two files is two pods. A change of the content makes a new UID. */
export function staticPod(pod: Pod, place: { file: string; nodeName: string }): Pod {
  const node = place.nodeName.toLowerCase();
  const hash = createHash('sha256').update(JSON.stringify([pod, `host:${place.nodeName}`, `file:${place.file}`])).digest('hex').slice(0, 32);
  const uid = pod.metadata?.uid ?? hash;
  const spec = pod.spec ?? { containers: [] };
  const hostNetwork = spec.hostNetwork === true;
  const complete = (containers: Container[]): Container[] => containers.map((container) => containerWithDefaults(container, hostNetwork));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...pod.metadata,
      name: `${pod.metadata?.name ?? ''}-${node}`,
      namespace: pod.metadata?.namespace ?? 'default',
      uid,
      annotations: { ...pod.metadata?.annotations, [configHashAnnotation]: hash, [configSourceAnnotation]: 'file' },
    },
    spec: {
      restartPolicy: 'Always',
      dnsPolicy: 'ClusterFirst',
      terminationGracePeriodSeconds: 30,
      enableServiceLinks: true,
      ...spec,
      nodeName: place.nodeName,
      containers: complete(spec.containers),
      ...(spec.initContainers !== undefined && { initContainers: complete(spec.initContainers) }),
      tolerations: [...(spec.tolerations ?? []), { operator: 'Exists', effect: 'NoExecute' }],
    },
    status: { phase: 'Pending' },
  };
}
