/** NRI's moments with plugins listening: what they are asked, and what their answers do. */
import type { LinuxContainerResources } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { namespacePath } from '#host/namespaces.ts';
import type { OciSpec } from '../oci/spec-types.ts';
import type { ContainerRecord } from '../state/container-record.ts';
import type { SandboxRecord } from '../state/sandbox-record.ts';
import { type AdjustHost, adjustSpec } from './adjust-spec.ts';
import { type ChangeDeps, Changes } from './changes.ts';
import { rejection, type ValidatorConfig } from './default-validator.ts';
import { describeContainer, describePod } from './describe.ts';
import type { Gate } from './gate.ts';
import { type Container, type ContainerUpdate, PodSandbox, type UpdateContainersRequest } from './gen/api.ts';
import { Merge } from './merge.ts';
import type { AdjustedContainer, Nri } from './nri.ts';
import type { Moment, Plugin, RequestOf } from './plugin.ts';
import { Plugins } from './plugins.ts';
import { fromCriResources, toCriResources } from './resources.ts';

export interface NriDeps extends ChangeDeps {
  readonly sandboxes: { find(id: string): SandboxRecord | undefined; list(): readonly SandboxRecord[] };
  readonly containers: { find(id: string): ContainerRecord | undefined; list(): readonly ContainerRecord[] };
  /** A container's config.json; undefined while there is none. */
  readonly readSpec: (container: ContainerRecord) => Promise<OciSpec | undefined>;
  /** Fault 'invalid' or 'not-found' names the device. */
  readonly injectCdiDevices: (spec: OciSpec, names: readonly string[]) => Promise<OciSpec>;
  readonly host: AdjustHost;
  readonly validator: ValidatorConfig;
}

type Told = Exclude<Moment, 'createContainer' | 'updateContainer' | 'stopContainer' | 'validateContainerAdjustment'>;

export class NriRuntime implements Nri {
  readonly #deps: NriDeps;
  readonly #plugins: Plugins;
  readonly #changes: Changes;
  /** Containers whose making plugins know of, until it has come to an end. */
  readonly #announced = new Set<string>();

  constructor(deps: NriDeps, gate: Gate) {
    this.#deps = deps;
    this.#plugins = new Plugins(gate);
    this.#changes = new Changes(deps);
  }

  /** Throws when the plugin does not start as it should; it is closed then. */
  async admit(ctx: Ctx, plugin: Plugin): Promise<void> {
    await plugin.start();
    const updates = await this.#plugins.join(plugin, async () => {
      const { sandboxes, containers } = this.#deps;
      const pods = sandboxes.list().filter(({ state }) => state.name !== 'making');
      const all = containers.list().filter(({ state }) => state.name !== 'making');
      return plugin.synchronize(pods.map((pod) => describePod(pod, namespacePath)), await Promise.all(all.map((record) => this.#describe(record))));
    });
    ctx.log.info({ plugin: plugin.id }, 'NRI plugin joined');
    void plugin.closed.then(() => ctx.log.info({ plugin: plugin.id }, 'NRI plugin left'));
    await this.#changes.update(ctx, updates);
  }

  /** Unsolicited. */
  async update(ctx: Ctx, { update, evict }: UpdateContainersRequest): Promise<ContainerUpdate[]> {
    const failed = await this.#changes.update(ctx, update);
    await this.#changes.evict(ctx, evict);
    return failed;
  }

  enter(): Promise<Disposable> {
    return this.#plugins.enter();
  }

  async runPodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void> {
    try {
      await this.#tellOfPod(ctx, 'runPodSandbox', pod);
    } catch (error) {
      await this.stopPodSandbox(ctx, pod);
      await this.removePodSandbox(ctx, pod);
      throw error;
    }
  }

  async updatePodSandbox(ctx: Ctx, pod: SandboxRecord, wanted: { overhead: LinuxContainerResources | undefined; resources: LinuxContainerResources | undefined }): Promise<void> {
    const { overhead, resources } = wanted;
    await this.#tell(ctx, 'updatePodSandbox', () => ({
      pod: describePod(pod, namespacePath), overheadLinuxResources: fromCriResources(overhead), linuxResources: fromCriResources(resources),
    }));
  }

  postUpdatePodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfPod(ctx, 'postUpdatePodSandbox', pod));
  }

  stopPodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfPod(ctx, 'stopPodSandbox', pod));
  }

  removePodSandbox(ctx: Ctx, pod: SandboxRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfPod(ctx, 'removePodSandbox', pod));
  }

  async createContainer(ctx: Ctx, record: ContainerRecord, spec: OciSpec): Promise<AdjustedContainer> {
    if (this.#plugins.isQuiet('createContainer') && this.#plugins.isQuiet('validateContainerAdjustment') && !this.#deps.validator.enable) return { spec, resources: undefined, cgroupsPath: undefined };
    this.#announced.add(record.id);
    const { adjust } = await this.#consult(ctx, new Merge({ container: describeContainer(record, spec) }, 'create'), async (plugins, merge) => {
      const pod = this.#podOf(record);
      const pristine = merge.container;
      for (const plugin of plugins) {
        const answer = await plugin.ask(ctx, 'createContainer', { pod, container: merge.container });
        if (answer !== undefined) merge.apply(plugin.id, answer);
      }
      await this.#validate(ctx, { plugins, pod, container: pristine, merge });
    });
    const names = adjust.CDIDevices.map(({ name }) => name);
    const withDevices = names.length === 0 ? spec : await this.#deps.injectCdiDevices(spec, names);
    const resources = adjust.linux?.resources;
    return {
      spec: adjustSpec(withDevices, adjust, this.#deps.host),
      resources: resources === undefined ? undefined : toCriResources(resources),
      cgroupsPath: adjust.linux?.cgroupsPath || undefined,
    };
  }

  async #validate(ctx: Ctx, facts: { plugins: readonly Plugin[]; pod: PodSandbox; container: Container; merge: Merge }): Promise<void> {
    const { plugins, pod, container, merge } = facts;
    const { adjust, owners } = merge;
    const reject = (by: string, why: string): Fault => new Fault('precondition', `${by} rejected the adjustments of container ${container.id}: ${why}`);
    const reason = rejection(this.#deps.validator, { pod, container, adjust, owners, plugins });
    if (reason !== undefined) throw reject('NRI default validator', reason);
    const names = plugins.map(({ name, index }) => ({ name, index }));
    await Promise.all(plugins.filter((plugin) => plugin.isOpen && plugin.hears('validateContainerAdjustment')).map(async (plugin) => {
      const answer = await plugin.ask(ctx, 'validateContainerAdjustment', { pod, container, adjust, update: merge.updates, owners: owners.message(), plugins: names });
      // A validator that is lost has not agreed.
      if (answer === undefined) throw reject(`NRI plugin ${plugin.id}`, 'it failed to answer');
      if (answer.reject) throw reject(`NRI plugin ${plugin.id}`, answer.reason || 'it gave no reason');
    }));
  }

  postCreateContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    this.#announced.delete(record.id);
    return this.#logged(ctx, this.#tellOfContainer(ctx, 'postCreateContainer', record));
  }

  async undoCreateContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    if (!this.#announced.delete(record.id)) return;
    await this.stopContainer(ctx, record);
    await this.removeContainer(ctx, record);
  }

  startContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    return this.#tellOfContainer(ctx, 'startContainer', record);
  }

  postStartContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfContainer(ctx, 'postStartContainer', record));
  }

  async updateContainer(ctx: Ctx, record: ContainerRecord, resources: LinuxContainerResources): Promise<LinuxContainerResources> {
    if (this.#plugins.isQuiet('updateContainer')) return resources;
    const request = new Merge({ container: await this.#describe(record), resources: fromCriResources(resources) }, 'update');
    const merge = await this.#consult(ctx, request, async (plugins, { container }) => {
      const pod = this.#podOf(record);
      for (const plugin of plugins) {
        const answer = await plugin.ask(ctx, 'updateContainer', { pod, container, linuxResources: request.resources });
        if (answer !== undefined) request.apply(plugin.id, answer);
      }
    });
    return merge.isResourcesChanged && merge.resources !== undefined ? toCriResources(merge.resources, resources) : resources;
  }

  postUpdateContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfContainer(ctx, 'postUpdateContainer', record));
  }

  async stopContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    if (this.#plugins.isQuiet('stopContainer')) return;
    const request = new Merge({ container: await this.#describe(record) }, 'stop');
    const consulted = this.#consult(ctx, request, async (plugins, { container }) => {
      const pod = this.#podOf(record);
      for (const plugin of plugins) {
        const answer = await plugin.ask(ctx, 'stopContainer', { pod, container });
        if (answer !== undefined) request.apply(plugin.id, answer);
      }
    });
    await this.#logged(ctx, consulted);
  }

  removeContainer(ctx: Ctx, record: ContainerRecord): Promise<void> {
    return this.#logged(ctx, this.#tellOfContainer(ctx, 'removeContainer', record));
  }

  #tellOfPod(ctx: Ctx, moment: Exclude<Told & `${string}PodSandbox`, 'updatePodSandbox'>, pod: SandboxRecord): Promise<void> {
    return this.#tell(ctx, moment, () => ({ pod: describePod(pod, namespacePath) }));
  }

  #tellOfContainer(ctx: Ctx, moment: Told & `${string}Container`, record: ContainerRecord): Promise<void> {
    return this.#tell(ctx, moment, async () => ({ pod: this.#podOf(record), container: await this.#describe(record) }));
  }

  async #tell<M extends Told>(ctx: Ctx, moment: M, describe: () => RequestOf<M> | Promise<RequestOf<M>>): Promise<void> {
    if (this.#plugins.isQuiet(moment)) return;
    await this.#plugins.exclusively(async (plugins) => {
      const request = await describe();
      for (const plugin of plugins) await plugin.ask(ctx, moment, request);
    });
  }

  /** Asks, and does what was asked for other containers: in the order of the requests, but when the next request may already pass. */
  async #consult(ctx: Ctx, merge: Merge, ask: (plugins: readonly Plugin[], merge: Merge) => Promise<void>): Promise<Merge> {
    const { updated } = await this.#plugins.exclusively(async (plugins) => {
      await ask(plugins, merge);
      // Wrapped: only its turn is taken here.
      return { updated: this.#changes.update(ctx, merge.updates) };
    });
    await this.#changes.evict(ctx, merge.evictions);
    await updated;
    return merge;
  }

  async #logged(ctx: Ctx, told: Promise<unknown>): Promise<void> {
    try {
      await told;
    } catch (error) {
      ctx.log.error({ err: error }, 'an NRI plugin failed; the work goes on');
    }
  }

  #podOf(record: ContainerRecord): PodSandbox {
    const pod = this.#deps.sandboxes.find(record.sandboxId);
    return pod === undefined ? PodSandbox.create({ id: record.sandboxId }) : describePod(pod, namespacePath);
  }

  async #describe(record: ContainerRecord): Promise<Container> {
    return describeContainer(record, await this.#deps.readSpec(record));
  }
}
