/** What an administrator forbids plugins to change, by configuration. Pure. Source: github.com/containerd/nri v0.12.3, plugins/default-validator. */
import { parse } from 'yaml';
import { type ContainerAdjustment, type Container, Field, type PodSandbox } from './gen/api.ts';
import type { Owners } from './owners.ts';

export interface ValidatorConfig {
  readonly enable: boolean;
  readonly rejectOCIHookAdjustment: boolean;
  readonly rejectRuntimeDefaultSeccompAdjustment: boolean;
  readonly rejectUnconfinedSeccompAdjustment: boolean;
  /** Of a Localhost profile. */
  readonly rejectCustomSeccompAdjustment: boolean;
  readonly rejectNamespaceAdjustment: boolean;
  readonly rejectSysctlAdjustment: boolean;
  /** Names (`name` or `10-name`) of plugins without which no container is created. */
  readonly requiredPlugins: readonly string[];
  /** Key of an annotation by which a pod or container goes without them. */
  readonly tolerateMissingPluginsAnnotation: string | undefined;
}

interface Adjusted {
  readonly pod: PodSandbox;
  /** As it was before the plugins. */
  readonly container: Container;
  readonly adjust: ContainerAdjustment;
  readonly owners: Owners;
  readonly plugins: readonly { readonly index: string; readonly name: string }[];
}

/** Why the container must not be created, undefined when it may. */
export function rejection(config: ValidatorConfig, adjusted: Adjusted): string | undefined {
  return config.enable ? (forbidden(config, adjusted) ?? missing(config, adjusted)) : undefined;
}

function forbidden(config: ValidatorConfig, { container, owners }: Adjusted): string | undefined {
  const by = (field: Field): string => [...owners.of(container.id, field).values()].map(({ plugin }) => plugin).join(', ');
  const profile = seccompKind(container);
  const rejectSeccomp = {
    'runtime default': config.rejectRuntimeDefaultSeccompAdjustment,
    unconfined: config.rejectUnconfinedSeccompAdjustment,
    custom: config.rejectCustomSeccompAdjustment,
  }[profile];
  const rules: readonly (readonly [boolean, Field, string])[] = [
    [config.rejectOCIHookAdjustment, Field.OciHooks, 'OCI hooks'],
    [rejectSeccomp, Field.SeccompPolicy, `the ${profile} seccomp profile`],
    [config.rejectNamespaceAdjustment, Field.Namespace, 'namespaces'],
    [config.rejectSysctlAdjustment, Field.Sysctl, 'sysctls'],
  ];
  const broken = rules.find(([isRejected, field]) => isRejected && by(field) !== '');
  return broken === undefined ? undefined : `${by(broken[1])} may not adjust ${broken[2]}`;
}

function seccompKind(container: Container): 'runtime default' | 'unconfined' | 'custom' {
  const kinds = ['runtime default', 'unconfined', 'custom'] as const;
  return kinds[(container.linux?.seccompProfile?.profileType as number | undefined) ?? 1] ?? 'unconfined';
}

const requiredAnnotation = 'required-plugins.noderesource.dev';

function missing(config: ValidatorConfig, { pod, container, plugins }: Adjusted): string | undefined {
  const annotation = (key: string): string | undefined => [`${key}/container.${container.name}`, `${key}/pod`, key].map((each) => pod.annotations[each]).find((value) => value !== undefined);
  const tolerated = config.tolerateMissingPluginsAnnotation === undefined ? undefined : annotation(config.tolerateMissingPluginsAnnotation);
  if (tolerated !== undefined && /^(1|t|true)$/i.test(tolerated)) return undefined;
  const asked = annotation(requiredAnnotation);
  const listed = asked === undefined ? [] : parseList(asked);
  if (listed === undefined) return `annotation ${requiredAnnotation} is not a list of names: ${JSON.stringify(asked)}`;
  const present = new Set(plugins.flatMap(({ index, name }) => [name, `${index}-${name}`]));
  const absent = [...config.requiredPlugins, ...listed].filter((name) => !present.has(name));
  return absent.length === 0 ? undefined : `required plugins are not there: ${absent.join(', ')}`;
}

function parseList(text: string): string[] | undefined {
  try {
    const value: unknown = parse(text);
    return Array.isArray(value) && value.every((entry) => typeof entry === 'string') ? value : undefined;
  } catch {
    return undefined;
  }
}
