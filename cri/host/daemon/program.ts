/** A program as its entry composes it: halves, what ties them together, commands. */
import type { Half } from './half.ts';

export interface Program {
  readonly version: string;
  /** In the order of their start; they are wiped in this order, too, and stopped in the opposite one. */
  readonly halves: readonly Half[];
  /** In this order: one may follow from what another gave. */
  readonly ties: readonly Tie[];
  readonly commands: readonly Command[];
  /** What the overview says above and below the commands. */
  readonly about: string;
  readonly hints: string;
}

/** A key that follows from another as long as nobody says it, so that the halves of one node find each other. */
export interface Tie {
  /** Dotted. */
  readonly from: string;
  readonly to: string;
  /** Only where both halves run in one process. */
  readonly isForWholeNode?: true;
  /** `value` as it stands in the file, undefined when nobody said it. Undefined: nothing follows. */
  readonly follow: (value: unknown) => unknown;
}

export type Flags = Readonly<Record<string, string | boolean | undefined>>;

export interface Command {
  readonly name: string;
  /** As the overview lists them: what to type, and what it does. */
  readonly forms: readonly (readonly [form: string, about: string])[];
  /** What its own help says above the flags of all commands. */
  readonly help: string;
  readonly takesArguments?: true;
  /** Flags of its own, which `help` explains: a text, or a switch. */
  readonly flags?: Readonly<Record<string, { readonly type: 'string' | 'boolean' }>>;
  /** Answers the exit status. */
  run(invocation: Invocation): Promise<number>;
}

export interface Invocation {
  readonly program: Program;
  readonly flags: Flags;
  readonly args: readonly string[];
}
