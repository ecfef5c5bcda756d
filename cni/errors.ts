/** What went wrong with a plugin: which one, doing what, and its own words. */
import { Fault, type FaultKind } from '#host/fault.ts';
import type { Verb } from './types.ts';

/** Codes of the CNI spec that mean "not now" rather than "not so": 11 try again later, 50 not available, 51 limited connectivity. */
const passingCodes: readonly number[] = [11, 50, 51];

const stderrTailChars = 1000;

export interface CniErrorFields {
  readonly plugin: string;
  readonly verb: Verb;
  /** The plugin's own number; undefined when it did not answer in the CNI format. */
  readonly code?: number | undefined;
  readonly msg: string;
  readonly details?: string | undefined;
  readonly stderr?: string | undefined;
  readonly kind?: FaultKind | undefined;
}

const verbWord: Readonly<Record<Verb, string>> = { ADD: 'add', DEL: 'delete', CHECK: 'check', STATUS: 'status', GC: 'gc', VERSION: 'version' };

/** The message begins as libcni's does (`plugin type="bridge" failed (add): …`): people and their scripts search for that. */
export class CniError extends Fault {
  readonly plugin: string;
  readonly verb: Verb;
  readonly code: number | undefined;
  readonly msg: string;
  readonly details: string | undefined;
  /** The end of what the plugin wrote there. */
  readonly stderr: string;
  constructor(fields: CniErrorFields, cause?: unknown) {
    const stderr = (fields.stderr ?? '').trim().slice(-stderrTailChars);
    super(fields.kind ?? (passingCodes.includes(fields.code ?? 0) ? 'unavailable' : 'internal'), describe(fields, stderr), cause);
    this.name = 'CniError';
    this.plugin = fields.plugin;
    this.verb = fields.verb;
    this.code = fields.code;
    this.msg = fields.msg;
    this.details = fields.details;
    this.stderr = stderr;
  }
}

function describe(fields: CniErrorFields, stderr: string): string {
  const { plugin, verb, msg, details } = fields;
  const head = `plugin type="${plugin}" failed (${verbWord[verb]}): ${msg}`;
  const more = [details, stderr].filter((text): text is string => text !== undefined && text !== '' && !msg.includes(text));
  return [head, ...more].join('; ');
}
