/** Spans to an OpenTelemetry collector by OTLP over gRPC (opentelemetry.io, OTLP Specification). What the collector does not take is dropped: nothing waits, nothing grows. */
import { hostname } from 'node:os';
import { credentials, Metadata } from '@grpc/grpc-js';
import type { Ctx } from '#host/ctx.ts';
import { type ExportTraceServiceRequest, type KeyValue, type Span, SpanKind, StatusCode, TraceServiceClient } from '../api/gen/otlp.ts';
import type { SpanIdentity } from './trace-context.ts';

export interface CallSpan extends SpanIdentity {
  /** `runtime.v1.RuntimeService/RunPodSandbox`. */
  readonly name: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  /** Number and message of the gRPC status. */
  readonly code: number;
  readonly message: string;
}

export interface Tracer {
  record(span: CallSpan): void;
  /** Sends what is waiting, for at most a second. */
  stop(): Promise<void>;
}

/** As OpenTelemetry's batch processor by default. */
const sendEveryMs = 5000;
const maxBatch = 512;
const maxWaiting = 2048;
const exportTimeoutMs = 10_000;
const lastExportTimeoutMs = 1000;

/** `endpoint`: host:port of a collector that takes OTLP without TLS. It need not be there: it is tried again with every batch. */
export function openTracer(ctx: Ctx, endpoint: string, version: string): Tracer {
  const client = new TraceServiceClient(endpoint, credentials.createInsecure());
  const waiting: Span[] = [];
  let dropped = 0;
  const send = async (timeoutMs: number): Promise<void> => {
    const batch = waiting.splice(0, maxBatch);
    if (batch.length === 0) return;
    await new Promise<void>((resolve) => {
      client.export(exportRequest(batch, version), new Metadata(), { deadline: Date.now() + timeoutMs }, (error) => {
        if (error !== null) ctx.log.debug({ err: error, endpoint, spans: batch.length }, 'spans not taken');
        resolve();
      });
    });
  };
  let sending: Promise<void> | undefined;
  // A collector that is slower than that gets the next batch later.
  const timer = setInterval(() => { sending ??= send(exportTimeoutMs).finally(() => { sending = undefined; }); }, sendEveryMs);
  timer.unref();
  return {
    record: (span) => {
      if (waiting.length < maxWaiting) waiting.push(otlpSpan(span));
      else if (dropped++ === 0) ctx.log.warn({ endpoint }, 'spans are dropped: the collector takes too few');
    },
    stop: async () => {
      clearInterval(timer);
      await send(lastExportTimeoutMs);
      client.close();
    },
  };
}

const attribute = (key: string, value: string | number): KeyValue =>
  ({ key, value: { value: typeof value === 'string' ? { $case: 'stringValue', value } : { $case: 'intValue', value: BigInt(value) } } });

const exportRequest = (spans: Span[], version: string): ExportTraceServiceRequest => ({
  resourceSpans: [{
    resource: { attributes: [attribute('service.name', 'nodelet'), attribute('service.version', version), attribute('host.name', hostname()), attribute('process.pid', process.pid)] },
    scopeSpans: [{ scope: { name: 'nodelet/cri', version }, spans }],
  }],
});

/** Names and attributes by the semantic conventions for gRPC servers (opentelemetry.io, RPC spans). */
function otlpSpan({ traceId, spanId, parentSpanId, name, startNs, endNs, code, message }: CallSpan): Span {
  const [service = '', method = ''] = name.split('/');
  return {
    traceId: Buffer.from(traceId, 'hex'), spanId: Buffer.from(spanId, 'hex'), parentSpanId: Buffer.from(parentSpanId, 'hex'), traceState: '',
    name, kind: SpanKind.SPAN_KIND_SERVER, startTimeUnixNano: startNs, endTimeUnixNano: endNs,
    attributes: [attribute('rpc.system', 'grpc'), attribute('rpc.service', service), attribute('rpc.method', method), attribute('rpc.grpc.status_code', code)],
    status: code === 0 ? undefined : { code: StatusCode.STATUS_CODE_ERROR, message },
  };
}
