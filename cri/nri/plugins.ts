/**
 * The plugins that are asked, in the order of their indexes, one request at a time: none ever sees two at once, and all see them in the same order.
 *
 * A plugin that joins is first told of all there is. Nothing is lost between that and its first request, for while it is told no request passes
 * (`exclusively`), and nobody stands between a request and its deed (`gate`).
 */
import { KeyedLock } from '../state/keyed-lock.ts';
import type { Gate } from './gate.ts';
import type { ContainerUpdate } from './gen/api.ts';
import type { Moment, Plugin } from './plugin.ts';

export class Plugins {
  readonly #turns = new KeyedLock<'requests'>();
  readonly #gate: Gate;
  #plugins: readonly Plugin[] = [];
  #joining = 0;

  constructor(gate: Gate) {
    this.#gate = gate;
  }

  enter(): Promise<Disposable> {
    return this.#gate.enter();
  }

  /** Nobody listens to it, and nobody is about to. */
  isQuiet(moment: Moment): boolean {
    return this.#joining === 0 && !this.#plugins.some((plugin) => plugin.hears(moment));
  }

  /** One after the other, in the order of the calls; `work` gets the plugins that are there then. */
  async exclusively<T>(work: (plugins: readonly Plugin[]) => Promise<T>): Promise<T> {
    using _ = await this.#turns.hold('requests');
    return await work(this.#plugins);
  }

  /** Throws when the plugin cannot be told of the state; it is closed then. Returns the updates that it wants. */
  async join(plugin: Plugin, synchronize: () => Promise<ContainerUpdate[]>): Promise<ContainerUpdate[]> {
    this.#joining++;
    try {
      using _gate = await this.#gate.close();
      using _turn = await this.#turns.hold('requests');
      const updates = await synchronize();
      this.#plugins = [...this.#plugins, plugin].toSorted((a, b) => (a.index < b.index ? -1 : a.index > b.index ? 1 : 0));
      void plugin.closed.then(() => {
        this.#plugins = this.#plugins.filter((other) => other !== plugin);
      });
      return updates;
    } finally {
      this.#joining--;
    }
  }
}
