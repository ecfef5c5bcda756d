/**
 * What several plugins want of one container, made one: each sees what those before it have changed, and two that want the same thing are in
 * conflict. A key that begins with `-` takes away. Pure. Source: github.com/containerd/nri v0.12.3, pkg/adaptation/result.go.
 */
import { Fault } from '#host/fault.ts';
import {
  type Container, ContainerAdjustment, type ContainerEviction, type ContainerUpdate, type CreateContainerResponse, Field, Hooks, type KeyValue, LinuxContainer,
  LinuxContainerAdjustment, type LinuxDevice, type LinuxNetDevice, LinuxRdt, LinuxResources, type Mount,
} from './gen/api.ts';
import { Owners } from './owners.ts';
import { overlayResources, resourceFields } from './resources.ts';

/** Of a key as plugins write it. */
export const removalOf = (key: string): string | undefined => (key.startsWith('-') ? key.slice(1) : undefined);

interface Collection<T> {
  readonly field: Field;
  readonly keyOf: (item: T) => string;
}

const mounts: Collection<Mount> = { field: Field.Mounts, keyOf: ({ destination }) => destination };
const devices: Collection<LinuxDevice> = { field: Field.Devices, keyOf: ({ path }) => path };
const env: Collection<KeyValue> = { field: Field.Env, keyOf: ({ key }) => key };
type Pair<V> = readonly [string, V];
const pairs = <V>(field: Field): Collection<Pair<V>> => ({ field, keyOf: ([key]) => key });

/** An adjustment so far, and what the container would be with it. */
interface Sides<T> {
  readonly adjusted: readonly T[];
  readonly current: readonly T[];
}

type Settings = Pick<LinuxContainerAdjustment, 'cgroupsPath' | 'oomScoreAdj' | 'ioPriority' | 'seccompPolicy' | 'scheduler'>;
/** Those things of which there is one, the same in an adjustment and in a container. */
const settings = (before: Settings, asked: Settings): Settings => ({
  cgroupsPath: asked.cgroupsPath || before.cgroupsPath,
  oomScoreAdj: asked.oomScoreAdj ?? before.oomScoreAdj,
  ioPriority: asked.ioPriority ?? before.ioPriority,
  seccompPolicy: asked.seccompPolicy ?? before.seccompPolicy,
  scheduler: asked.scheduler ?? before.scheduler,
});

const parseEnv = (entry: string): KeyValue => {
  const at = entry.indexOf('=');
  return at < 0 ? { key: entry, value: '' } : { key: entry.slice(0, at), value: entry.slice(at + 1) };
};

interface Request {
  readonly container: Container;
  /** What an UpdateContainer asks for; undefined for other requests. */
  readonly resources?: LinuxResources | undefined;
}

/** The answers of the plugins to one request, in their order. */
export class Merge {
  readonly owners = new Owners();
  readonly evictions: ContainerEviction[] = [];
  adjust = ContainerAdjustment.create({ linux: {} });
  /** As the next plugin is to see it. */
  container: Container;
  /** What an UpdateContainer asks for, as the next plugin is to see it. */
  resources: LinuxResources | undefined;
  /** Whether a plugin changed them. */
  isResourcesChanged = false;
  readonly #updates = new Map<string, ContainerUpdate>();
  readonly #creating: boolean;

  constructor(request: Request, kind: 'create' | 'update' | 'stop') {
    this.#creating = kind === 'create';
    this.container = request.container;
    this.resources = request.resources;
  }

  /** Of other containers. */
  get updates(): ContainerUpdate[] {
    return [...this.#updates.values()];
  }

  /** Fault 'invalid' when the plugin wants what another has set, or what is not its to ask. */
  apply(plugin: string, answer: Pick<CreateContainerResponse, 'update'> & Partial<CreateContainerResponse>): void {
    if (answer.adjust !== undefined) this.#adjust(plugin, answer.adjust);
    for (const update of answer.update) this.#update(plugin, update);
    this.evictions.push(...(answer.evict ?? []));
  }

  #adjust(plugin: string, asked: ContainerAdjustment): void {
    const { adjust, container } = this;
    const annotations = this.#record(plugin, pairs<string>(Field.Annotations), asked.annotations, { adjusted: adjust.annotations, current: container.annotations });
    const mounted = this.#list(plugin, mounts, asked.mounts, { adjusted: adjust.mounts, current: container.mounts });
    const environment = this.#list(plugin, env, asked.env, { adjusted: adjust.env, current: container.env.map(parseEnv) });
    this.owners.claim(container.id, plugin, [
      ...asked.rlimits.map(({ type }) => ({ field: Field.Rlimits, key: type })),
      ...asked.CDIDevices.map(({ name }) => ({ field: Field.CdiDevices, key: name })),
    ]);
    this.adjust = {
      ...adjust,
      annotations: annotations.adjusted,
      mounts: [...mounted.adjusted],
      env: [...environment.adjusted],
      rlimits: [...adjust.rlimits, ...asked.rlimits],
      CDIDevices: [...adjust.CDIDevices, ...asked.CDIDevices],
    };
    this.container = {
      ...container,
      annotations: annotations.current,
      mounts: [...mounted.current],
      env: environment.current.map(({ key, value }) => `${key}=${value}`),
      rlimits: [...container.rlimits, ...asked.rlimits],
    };
    this.#adjustArgs(plugin, asked.args);
    this.#adjustHooks(plugin, asked.hooks);
    if (asked.linux !== undefined) this.#adjustLinux(plugin, asked.linux);
  }

  /** An empty first word takes the arguments over from a plugin before. */
  #adjustArgs(plugin: string, asked: readonly string[]): void {
    if (asked.length === 0) return;
    const args = asked[0] === '' ? asked.slice(1) : [...asked];
    if (asked[0] === '') this.owners.clear(this.container.id, plugin, { field: Field.Args });
    this.owners.claim(this.container.id, plugin, [{ field: Field.Args }]);
    this.adjust = { ...this.adjust, args };
    this.container = { ...this.container, args };
  }

  /** Hooks are added to; that is never a conflict. */
  #adjustHooks(plugin: string, asked: Hooks | undefined): void {
    const kinds = Object.keys(Hooks.create()) as (keyof Hooks)[];
    if (asked === undefined || kinds.every((kind) => asked[kind].length === 0)) return;
    this.owners.share(this.container.id, plugin, Field.OciHooks);
    const added = (before: Hooks | undefined): Hooks =>
      Object.fromEntries(kinds.map((kind) => [kind, [...(before?.[kind] ?? []), ...asked[kind]]])) as unknown as Hooks;
    this.adjust = { ...this.adjust, hooks: added(this.adjust.hooks) };
    this.container = { ...this.container, hooks: added(this.container.hooks) };
  }

  #adjustLinux(plugin: string, asked: LinuxContainerAdjustment): void {
    const { id } = this.container;
    const adjust = this.adjust.linux ?? LinuxContainerAdjustment.create();
    const container = this.container.linux ?? LinuxContainer.create();
    const device = this.#list(plugin, devices, asked.devices, { adjusted: adjust.devices, current: container.devices });
    const sysctl = this.#record(plugin, pairs<string>(Field.Sysctl), asked.sysctl, { adjusted: adjust.sysctl, current: container.sysctl });
    const netDevices = this.#record(plugin, pairs<LinuxNetDevice>(Field.LinuxNetDevices), asked.netDevices, { adjusted: adjust.netDevices, current: container.netDevices });
    const kinds = asked.namespaces.map(({ type }) => removalOf(type) ?? type);
    this.owners.claim(id, plugin, [
      ...(asked.resources === undefined ? [] : resourceFields(asked.resources)),
      ...kinds.map((key) => ({ field: Field.Namespace, key })),
      ...(asked.cgroupsPath === '' ? [] : [{ field: Field.CgroupsPath }]),
      ...(asked.oomScoreAdj === undefined ? [] : [{ field: Field.OomScoreAdj }]),
      ...(asked.ioPriority === undefined ? [] : [{ field: Field.IoPriority }]),
      ...(asked.seccompPolicy === undefined ? [] : [{ field: Field.SeccompPolicy }]),
      ...(asked.scheduler === undefined ? [] : [{ field: Field.LinuxSched }]),
      ...(asked.memoryPolicy === undefined ? [] : [{ field: Field.MemoryPolicy }]),
    ]);
    const over = asked.resources ?? LinuxResources.create();
    const namespaces = [...container.namespaces.filter(({ type }) => !kinds.includes(type)), ...asked.namespaces.filter(({ type }) => removalOf(type) === undefined)];
    this.adjust = {
      ...this.adjust,
      linux: {
        ...adjust, ...settings(adjust, asked), devices: [...device.adjusted], sysctl: sysctl.adjusted, netDevices: netDevices.adjusted,
        resources: asked.resources === undefined ? adjust.resources : overlayResources(adjust.resources, over),
        namespaces: [...adjust.namespaces, ...asked.namespaces],
        memoryPolicy: asked.memoryPolicy ?? adjust.memoryPolicy,
        rdt: this.#rdt(plugin, adjust.rdt, asked.rdt),
      },
    };
    this.container = {
      ...this.container,
      linux: {
        ...container, ...settings(container, asked), devices: [...device.current], sysctl: sysctl.current, netDevices: netDevices.current, namespaces,
        resources: overlayResources(container.resources, over),
      },
    };
  }

  #rdt(plugin: string, before: LinuxRdt | undefined, asked: LinuxRdt | undefined): LinuxRdt | undefined {
    if (asked === undefined) return before;
    const { id } = this.container;
    const all = [
      ['closId', Field.RdtClosID],
      ['schemata', Field.RdtSchemata],
      ['enableMonitoring', Field.RdtEnableMonitoring],
    ] as const;
    if (asked.remove) for (const [, field] of all) this.owners.clear(id, plugin, { field });
    const set = all.filter(([name]) => asked[name] !== undefined);
    this.owners.claim(id, plugin, set.map(([, field]) => ({ field })));
    const base = asked.remove || before === undefined ? LinuxRdt.create({ remove: asked.remove }) : before;
    return { ...base, ...Object.fromEntries(set.map(([name]) => [name, asked[name]])) };
  }

  /** Of a container that exists; that of the request itself becomes part of the request. A conflict is overlooked if the plugin says so. */
  #update(plugin: string, update: ContainerUpdate): void {
    const { containerId: id, ignoreFailure } = update;
    const isOwn = id === this.container.id;
    if (isOwn && this.#creating) throw new Fault('invalid', `NRI plugin ${plugin} asked for an update of container ${id}, which is being created`);
    const asked = update.linux?.resources;
    if (asked === undefined) return;
    try {
      this.owners.claim(id, plugin, resourceFields(asked));
    } catch (error) {
      if (ignoreFailure) return;
      throw error;
    }
    if (isOwn && this.resources !== undefined) {
      this.resources = overlayResources(this.resources, asked);
      this.isResourcesChanged = true;
      return;
    }
    const before = this.#updates.get(id);
    const resources = overlayResources(before?.linux?.resources, asked);
    this.#updates.set(id, { containerId: id, linux: { resources }, ignoreFailure: ignoreFailure && (before?.ignoreFailure ?? true) });
  }

  #list<T>(plugin: string, { field, keyOf }: Collection<T>, asked: readonly T[], before: Sides<T>): Sides<T> {
    if (asked.length === 0) return before;
    const { id } = this.container;
    const removals = asked.filter((item) => removalOf(keyOf(item)) !== undefined);
    const additions = asked.filter((item) => removalOf(keyOf(item)) === undefined);
    const removed = new Set(removals.map((item) => removalOf(keyOf(item))));
    const touched = new Set([...removed, ...additions.map(keyOf)]);
    for (const item of before.adjusted) if (removed.has(keyOf(item))) this.owners.clear(id, plugin, { field, key: keyOf(item) });
    this.owners.claim(id, plugin, additions.map((item) => ({ field, key: keyOf(item) })));
    return {
      adjusted: [...before.adjusted.filter((item) => !removed.has(keyOf(item))), ...removals, ...additions],
      current: [...before.current.filter((item) => !touched.has(keyOf(item))), ...additions],
    };
  }

  #record<V>(plugin: string, kind: Collection<Pair<V>>, asked: Record<string, V>, before: { adjusted: Record<string, V>; current: Record<string, V> }): { adjusted: Record<string, V>; current: Record<string, V> } {
    const sides = { adjusted: Object.entries(before.adjusted), current: Object.entries(before.current) };
    const { adjusted, current } = this.#list<Pair<V>>(plugin, kind, Object.entries(asked), sides);
    return { adjusted: Object.fromEntries(adjusted), current: Object.fromEntries(current) };
  }
}
