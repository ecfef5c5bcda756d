/** config.json as text. Pure. */
import type { OciSpec } from './spec-types.ts';

/** Of ES2026; TypeScript's library does not know it yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** Every 64-bit number exactly. */
export const writeSpec = (spec: OciSpec): string => JSON.stringify(spec, (_key, value: unknown) => (typeof value === 'bigint' ? rawJSON(String(value)) : value));

/** Of a text that `writeSpec` wrote; numbers beyond 2^53 come back rounded. */
export const readSpec = (text: string): OciSpec =>
  JSON.parse(text, (key, value: unknown) => ((key === 'hard' || key === 'soft') && typeof value === 'number' ? BigInt(value) : value)) as OciSpec;
