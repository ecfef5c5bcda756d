/** Which OCI runtime a handler means: those that the configuration names now, and those it named before, which containers still have. */
import { Fault } from '#host/fault.ts';
import type { OciRuntime } from './runtime.ts';

export class RuntimeTable {
  #named: readonly OciRuntime[];
  #defaultName: string | undefined;
  readonly #retired = new Map<string, OciRuntime>();

  constructor(named: readonly OciRuntime[], defaultName: string | undefined) {
    this.#named = named;
    this.#defaultName = defaultName;
  }

  /** For new pods. */
  get named(): readonly OciRuntime[] {
    return this.#named;
  }

  /** For whatever may still be there. */
  get all(): readonly OciRuntime[] {
    return [...this.#named, ...this.#retired.values()];
  }

  /** Of a new pod: '' is the default. Fault invalid for a handler that is not configured. */
  forNew(handler: string): OciRuntime {
    return this.#find(this.#named, handler);
  }

  /** Of a pod that is there, though its handler may have left the configuration since. */
  forExisting(handler: string): OciRuntime {
    return this.#find(this.all, handler);
  }

  /** Undefined for a handler that left the configuration before this process started. */
  find(handler: string): OciRuntime | undefined {
    return this.all.find(({ name }) => name === handler);
  }

  #find(among: readonly OciRuntime[], handler: string): OciRuntime {
    const name = handler === '' ? (this.#defaultName ?? this.#named[0]?.name) : handler;
    const found = among.find((runtime) => runtime.name === name);
    if (found === undefined) throw new Fault('invalid', `runtime handler ${JSON.stringify(handler)} is not configured; there are ${this.#named.map((runtime) => runtime.name).join(', ')}`);
    return found;
  }

  replace(named: readonly OciRuntime[], defaultName: string | undefined): void {
    for (const runtime of this.#named) this.#retired.set(runtime.name, runtime);
    for (const { name } of named) this.#retired.delete(name);
    this.#named = named;
    this.#defaultName = defaultName;
  }
}
