/** Pod and container → ContainerConfig. */
import { ContainerConfig, NamespaceMode, type Image, type Mount } from '#cri-api';
import { containerAnnotations, containerLabels } from '../cri/labels.ts';
import type { Container, Pod } from '../kube/types.ts';
import { expand } from './expand.ts';
import { containerHash } from './hash.ts';
import { containerResources, type ResourceFacts } from './resources.ts';
import { containerSecurity, type SecurityFacts } from './security.ts';

export interface ContainerFacts {
  readonly restartCount: number;
  readonly image: { readonly ref: string; readonly known: Image | undefined };
  readonly env: ReadonlyMap<string, string>;
  readonly mounts: readonly Mount[];
  readonly security: SecurityFacts;
  readonly resources: ResourceFacts;
  /** Container whose pid namespace an ephemeral container enters. */
  readonly targetId?: string;
}

/** Below the sandbox's log directory. */
export const logPath = (container: Container, restartCount: number): string => `${container.name}/${restartCount}.log`;

/** Throws Fault('invalid') when the security context cannot be satisfied. */
export function containerConfig(pod: Pod, container: Container, facts: ContainerFacts): ContainerConfig {
  const security = containerSecurity(pod, container, facts.image.known, facts.security);
  if (facts.targetId !== undefined && security.namespaceOptions?.pid === NamespaceMode.CONTAINER) {
    security.namespaceOptions = { ...security.namespaceOptions, pid: NamespaceMode.TARGET, targetId: facts.targetId };
  }
  const values = (list: readonly string[] | undefined): string[] => (list ?? []).map((text) => expand(text, facts.env));
  return ContainerConfig.fromPartial({
    metadata: { name: container.name, attempt: facts.restartCount },
    image: { image: facts.image.ref, userSpecifiedImage: container.image ?? '' },
    command: values(container.command),
    args: values(container.args),
    workingDir: container.workingDir ?? '',
    envs: [...facts.env].map(([key, value]) => ({ key, value: Buffer.from(value, 'utf8') })),
    mounts: [...facts.mounts],
    labels: containerLabels(pod, container),
    annotations: containerAnnotations(pod, container, { hash: containerHash(container), restartCount: facts.restartCount }),
    logPath: logPath(container, facts.restartCount),
    stdin: container.stdin === true,
    stdinOnce: container.stdinOnce === true,
    tty: container.tty === true,
    linux: { resources: containerResources(pod, container, facts.resources), securityContext: security },
  });
}
