/** The trace that a call belongs to (W3C Trace Context, `traceparent`), and whether it is recorded. Pure but for random ids. */
import { randomBytes } from 'node:crypto';

export interface TraceParent {
  /** 32 and 16 hex digits. */
  readonly traceId: string;
  readonly spanId: string;
  readonly isSampled: boolean;
}

/** Undefined for what is no valid header; the reader must then begin a trace of its own. */
export function parseTraceParent(header: string): TraceParent | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(header) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined) || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export interface SpanIdentity {
  readonly traceId: string;
  readonly spanId: string;
  /** '' for the first span of a trace. */
  readonly parentSpanId: string;
}

const million = 1_000_000;

/** The caller's decision holds; without one, `ratePerMillion` of new traces are recorded. Undefined: this call is not. */
export function newSpan(parent: TraceParent | undefined, ratePerMillion: number, random = Math.random): SpanIdentity | undefined {
  if (parent === undefined ? random() * million >= ratePerMillion : !parent.isSampled) return undefined;
  return { traceId: parent?.traceId ?? randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), parentSpanId: parent?.spanId ?? '' };
}
