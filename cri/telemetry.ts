/** What the server tells of itself, as far as the configuration asks for it: metrics for Prometheus, spans for a collector. */
import type { ServerInterceptor } from '@grpc/grpc-js';
import type { Ctx } from '#host/ctx.ts';
import type { CriConfig } from './config.ts';
import type { CriParts } from './parts.ts';
import { measureCalls, traceCalls } from './service/observe.ts';
import { serveMetrics } from './telemetry/metrics-server.ts';
import { MetricRegistry } from './telemetry/registry.ts';
import { callMetrics, serverMetrics } from './telemetry/server-metrics.ts';
import { openTracer } from './telemetry/tracer.ts';

export interface Telemetry {
  readonly interceptors: readonly ServerInterceptor[];
  stop(): Promise<void>;
}

/** Fault internal when the address for metrics cannot be listened on. */
export async function startTelemetry(ctx: Ctx, config: Pick<CriConfig, 'metrics' | 'tracing'>, parts: CriParts, version: string): Promise<Telemetry> {
  const interceptors: ServerInterceptor[] = [];
  const stops: (() => void | Promise<void>)[] = [];
  if (config.metrics.address !== undefined) {
    const registry = new MetricRegistry();
    interceptors.push(measureCalls(callMetrics(registry)));
    stops.push(serverMetrics(registry, { ...parts, countImages: () => parts.images.list().length, lostEvents: () => parts.events.lost }));
    const server = await serveMetrics(config.metrics.address, registry);
    stops.push(() => server.stop());
  }
  if (config.tracing.endpoint !== undefined) {
    const tracer = openTracer(ctx, config.tracing.endpoint, version);
    interceptors.push(traceCalls(tracer, config.tracing.samplingRatePerMillion));
    stops.push(() => tracer.stop());
  }
  return { interceptors, stop: async () => { for (const stop of stops.toReversed()) await stop(); } };
}
