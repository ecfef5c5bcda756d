/** What the command line and the life of a daemon know of one half of nodelet. A half imports its code when it is used, not before. */
import type { Keys, Problem } from '../config/key.ts';
import type { Ctx } from '../ctx.ts';

export interface Half<Config = unknown> {
  /** Of its section in the configuration, of its part in the log, and of the command that starts it alone. */
  readonly name: string;
  /** Above its section in the default file. */
  readonly about: string;
  readonly keys: Keys;
  /** By name, without the dashes. A flag of two halves sets a key of both; the first to start says what it is for. */
  readonly flags: Readonly<Record<string, HalfFlag>>;
  /** What no single key can tell. Places begin below its section. */
  problems(config: Config): Problem[];
  /** Why with this configuration it would have nothing to do; undefined when it has. */
  idleReason?(config: Config): string | undefined;
  /** What it listens on beyond this machine's files; 0 is none. */
  ports?(config: Config): readonly { readonly port: number; readonly what: string }[];
  /** Held from before its start until after its stop, and while it is wiped. */
  lockFile(config: Config): string;
  /** Throws Fault when it cannot; then nothing of it runs. */
  start(ctx: Ctx, config: Config): Promise<RunningHalf<Config>>;
  /**
   * Removes everything that it ever made on this machine, without its lock file. May run twice; what cannot be removed is thrown after everything
   * else was tried.
   */
  wipe(ctx: Ctx, config: Config): Promise<void>;
}

export interface HalfFlag {
  /** What the help calls its value. All but a name are paths, relative to where the command was typed. */
  readonly takes: 'DIR' | 'FILE' | 'PATH' | 'NAME';
  readonly about: string;
  /** The key that it overrides, dotted, below the section. */
  readonly key: string;
  /** The key's value, where it is not what was typed. */
  readonly convert?: (given: string) => unknown;
  /** Every command explains it, not only those that start the half. */
  readonly isShared?: true;
}

export interface RunningHalf<Config = unknown> {
  /** Containers keep running. */
  stop(): Promise<void>;
  /** Does what a client would have done, and says in a few words how things are. Throws Fault when there is no answer before `ctx` is given up. */
  look(ctx: Ctx): Promise<string>;
  /** Takes over the live keys `changed` (dotted, below its section). All or nothing: a Fault says what cannot be used, and then nothing changed. */
  reload(ctx: Ctx, config: Config, changed: readonly string[]): Promise<void>;
}
