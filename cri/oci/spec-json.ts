/** config.json as text. Pure. */
import type { OciSpec } from './spec-types.ts';

/** Of ES2026; TypeScript's library does not know it yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** Every 64-bit number exactly. */
export function writeSpec(spec: OciSpec): string {
  const { rlimits } = spec.process;
  if (rlimits === undefined) return JSON.stringify(spec);
  const exact = rlimits.map(({ type, hard, soft }) => ({ type, hard: rawJSON(String(hard)), soft: rawJSON(String(soft)) }));
  return JSON.stringify({ ...spec, process: { ...spec.process, rlimits: exact } });
}

/** Of a text that `writeSpec` wrote; numbers beyond 2^53 come back rounded. */
export function readSpec(text: string): OciSpec {
  const spec = JSON.parse(text) as OciSpec;
  const { rlimits } = spec.process;
  if (rlimits === undefined) return spec;
  return { ...spec, process: { ...spec.process, rlimits: rlimits.map(({ type, hard, soft }) => ({ type, hard: BigInt(hard), soft: BigInt(soft) })) } };
}
