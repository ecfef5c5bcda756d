/**
 * One plugin, from its connection on.
 *
 *   connected ──RegisterPlugin──▶ registered ──Configure──▶ configured ──Synchronize──▶ synchronised: it is asked
 *       └─────────────── no answer in time, an answer that makes no sense, the connection ended ──────────▶ closed
 */
import type { Duplex } from 'node:stream';
import type { Ctx } from '#host/ctx.ts';
import { explain, Fault, isFault } from '#host/fault.ts';
import { Connection, RpcError } from './connection.ts';
import {
  type Container, type ContainerUpdate, Empty, Event, PluginDefinition, type PodSandbox, RegisterPluginRequest, RuntimeDefinition, StateChangeEvent, SynchronizeRequest,
  UpdateContainersRequest, UpdateContainersResponse,
} from './gen/api.ts';
import type { PluginName } from './plugin-name.ts';
import { maxMessageBytes } from './ttrpc.ts';

type Methods = typeof PluginDefinition.methods;
interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}
type MessageOf<C> = C extends { decode(bytes: Uint8Array): infer T } ? T : never;
type Method = keyof Methods;
export type RequestOf<M extends Method> = MessageOf<Methods[M]['requestType']>;
export type ResponseOf<M extends Method> = MessageOf<Methods[M]['responseType']>;

/** The moments that a plugin subscribes to. */
const events = {
  runPodSandbox: Event.RUN_POD_SANDBOX,
  updatePodSandbox: Event.UPDATE_POD_SANDBOX,
  postUpdatePodSandbox: Event.POST_UPDATE_POD_SANDBOX,
  stopPodSandbox: Event.STOP_POD_SANDBOX,
  removePodSandbox: Event.REMOVE_POD_SANDBOX,
  createContainer: Event.CREATE_CONTAINER,
  postCreateContainer: Event.POST_CREATE_CONTAINER,
  startContainer: Event.START_CONTAINER,
  postStartContainer: Event.POST_START_CONTAINER,
  updateContainer: Event.UPDATE_CONTAINER,
  postUpdateContainer: Event.POST_UPDATE_CONTAINER,
  stopContainer: Event.STOP_CONTAINER,
  removeContainer: Event.REMOVE_CONTAINER,
  validateContainerAdjustment: Event.VALIDATE_CONTAINER_ADJUSTMENT,
} as const satisfies Partial<Record<Method, Event>>;
export type Moment = keyof typeof events;

/** Moments without an answer, which plugins from before NRI 0.11 are told of by StateChange. */
const told: readonly Moment[] = [
  'runPodSandbox', 'postUpdatePodSandbox', 'stopPodSandbox', 'removePodSandbox', 'postCreateContainer', 'startContainer', 'postStartContainer', 'postUpdateContainer', 'removeContainer',
];

const allEvents = (1 << (Event.LAST - 1)) - 1;

export interface PluginOptions {
  /** Of a plugin that we started; others say it when they register. */
  readonly name?: PluginName | undefined;
  /** Its own configuration, as text. */
  readonly configuration: string;
  readonly runtime: { readonly name: string; readonly version: string };
  /** Until it registers; and then for each message of the state, which may be big and is told only once. */
  readonly registrationTimeoutMs: number;
  readonly requestTimeoutMs: number;
  /** Unsolicited updates; returns those that failed. */
  readonly update: (request: UpdateContainersRequest) => Promise<ContainerUpdate[]>;
}

/** The version whose messages these are: cri/nri/api.proto. */
const nriVersion = 'v0.12.3';

export class Plugin {
  readonly #options: PluginOptions;
  readonly #connection: Connection;
  readonly #registered = Promise.withResolvers<PluginName>();
  readonly #old = new Set<Moment>();
  #name: PluginName | undefined;
  #events = 0;

  constructor(socket: Duplex, options: PluginOptions) {
    this.#options = options;
    this.#connection = new Connection(socket, RuntimeDefinition.fullName, (method, payload) => this.#serve(method, payload));
    this.#registered.promise.catch(() => undefined);
    void this.#connection.closed.then(() => this.#registered.reject(new Fault('unavailable', 'the plugin closed its connection before it registered')));
  }

  get index(): string {
    return this.#name?.index ?? '';
  }

  get name(): string {
    return this.#name?.name ?? '';
  }

  /** `10-name`, for people and for ownership. */
  get id(): string {
    return `${this.index}-${this.name}`;
  }

  /** Resolves when it is gone. */
  get closed(): Promise<void> {
    return this.#connection.closed;
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  hears(moment: Moment): boolean {
    return (this.#events & (1 << (events[moment] - 1))) !== 0;
  }

  close(why: string): void {
    this.#connection.close(new Fault('unavailable', why));
  }

  /** Waits for its registration and configures it. Throws when that fails, and the plugin is closed then. */
  async start(): Promise<void> {
    const { registrationTimeoutMs, requestTimeoutMs, runtime, configuration, name } = this.#options;
    const late = setTimeout(() => this.#registered.reject(new Fault('timeout', `the plugin did not register within ${registrationTimeoutMs} ms`)), registrationTimeoutMs);
    try {
      const registered = await this.#registered.promise;
      this.#name = name ?? registered;
      const answer = await this.#call('configure', {
        config: configuration, runtimeName: runtime.name, runtimeVersion: runtime.version, NRIVersion: nriVersion,
        registrationTimeout: BigInt(registrationTimeoutMs), requestTimeout: BigInt(requestTimeoutMs),
      });
      if ((answer.events & ~allEvents) !== 0) throw new Fault('invalid', `the plugin subscribes to unknown events: 0x${answer.events.toString(16)}`);
      this.#events = answer.events === 0 ? allEvents : answer.events;
    } catch (error) {
      this.close(explain(error));
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** Tells it of everything there is; returns the updates it wants. Throws when that fails, and the plugin is closed then. */
  async synchronize(pods: readonly PodSandbox[], containers: readonly Container[]): Promise<ContainerUpdate[]> {
    try {
      for (const request of synchronizeRequests(pods, containers)) {
        const answer = await this.#call('synchronize', request, this.#options.registrationTimeoutMs);
        if (!request.more) return answer.update;
        if (!answer.more || answer.update.length > 0) throw new Fault('unimplemented', 'the plugin cannot take the state in several messages');
      }
      return [];
    } catch (error) {
      this.close(explain(error));
      throw error;
    }
  }

  /**
   * Undefined when it does not listen, or is lost: a plugin that does not answer in time or in words that make sense is closed, and the work goes on
   * without it. Its own error is thrown, as Fault 'internal' that names it.
   */
  async ask<M extends Moment>(ctx: Ctx, moment: M, request: RequestOf<M>): Promise<ResponseOf<M> | undefined> {
    if (!this.isOpen || !this.hears(moment)) return undefined;
    try {
      return this.#old.has(moment) ? await this.#tellOld(moment, request) : await this.#call(moment, request);
    } catch (error) {
      if (error instanceof RpcError && error.kind === 'unimplemented' && told.includes(moment) && !this.#old.has(moment)) {
        this.#old.add(moment);
        return this.ask(ctx, moment, request);
      }
      if (error instanceof RpcError || isFault(error, 'exhausted')) throw new Fault('internal', `NRI plugin ${this.id}: ${PluginDefinition.methods[moment].name}`, error);
      ctx.log.error({ plugin: this.id, request: PluginDefinition.methods[moment].name, err: error }, 'closing an NRI plugin that fails to answer');
      this.close(explain(error));
      return undefined;
    }
  }

  async #tellOld<M extends Moment>(moment: M, request: RequestOf<M>): Promise<ResponseOf<M>> {
    const { pod, container } = request as { pod?: PodSandbox; container?: Container };
    await this.#call('stateChange', StateChangeEvent.create({ event: events[moment], pod, container }));
    return (PluginDefinition.methods[moment].responseType as unknown as Codec<ResponseOf<M>>).decode(new Uint8Array(0));
  }

  async #call<M extends Method>(method: M, request: RequestOf<M>, timeoutMs = this.#options.requestTimeoutMs): Promise<ResponseOf<M>> {
    const { name, requestType, responseType } = PluginDefinition.methods[method];
    const payload = (requestType as unknown as Codec<RequestOf<M>>).encode(request).finish();
    const answer = await this.#connection.call({ service: PluginDefinition.fullName, method: name }, payload, timeoutMs);
    return (responseType as unknown as Codec<ResponseOf<M>>).decode(answer);
  }

  async #serve(method: string, payload: Uint8Array): Promise<Uint8Array> {
    const { registerPlugin, updateContainers } = RuntimeDefinition.methods;
    if (method === registerPlugin.name) {
      this.#register(RegisterPluginRequest.decode(payload));
      return Empty.encode({}).finish();
    }
    if (method !== updateContainers.name) throw new Fault('unimplemented', `no method ${JSON.stringify(method)}`);
    if (this.#events === 0) throw new Fault('precondition', 'not configured yet');
    return UpdateContainersResponse.encode({ failed: await this.#options.update(UpdateContainersRequest.decode(payload)) }).finish();
  }

  #register({ pluginName, pluginIdx }: RegisterPluginRequest): void {
    const isSound = /^\d\d$/.test(pluginIdx) && /^[\w.+-]{1,253}$/.test(pluginName);
    if (this.#options.name === undefined && !isSound) {
      const error = new Fault('invalid', `a plugin needs an index of two digits and a name, not ${JSON.stringify(pluginIdx)} and ${JSON.stringify(pluginName)}`);
      this.#registered.reject(error);
      throw error;
    }
    this.#registered.resolve({ index: pluginIdx, name: pluginName });
  }
}

/** Room for the list's own bytes around an entry (tag and length) and for the flag. */
const entryOverheadBytes = 8;
/** Less than a whole message, for the envelope of the request. */
const maxStateBytes = maxMessageBytes - 1024;

/** The state in as few messages as will do, all but the last with `more`; a plugin puts them together again. */
export function synchronizeRequests(pods: readonly PodSandbox[], containers: readonly Container[], maxBytes: number = maxStateBytes): SynchronizeRequest[] {
  const requests: SynchronizeRequest[] = [];
  let current = SynchronizeRequest.create();
  let bytes = 0;
  const add = (entry: Pick<SynchronizeRequest, 'pods' | 'containers'>): void => {
    const size = SynchronizeRequest.encode({ ...entry, more: false }).finish().length + entryOverheadBytes;
    if (bytes > 0 && bytes + size > maxBytes) {
      requests.push({ ...current, more: true });
      current = SynchronizeRequest.create();
      bytes = 0;
    }
    bytes += size;
    current.pods.push(...entry.pods);
    current.containers.push(...entry.containers);
  };
  for (const pod of pods) add({ pods: [pod], containers: [] });
  for (const container of containers) add({ pods: [], containers: [container] });
  return [...requests, current];
}
