/** Watching every call from outside, for metrics and traces: interceptors that are there only when somebody wants to know. */
import {
  type Metadata, ResponderBuilder, type ServerInterceptor, ServerInterceptingCall, ServerListenerBuilder, status as Code, type StatusObject,
} from '@grpc/grpc-js';
import { monotonicMs, nowNs } from '#host/clock.ts';
import type { CallMetrics } from '../telemetry/server-metrics.ts';
import { newSpan, parseTraceParent, type SpanIdentity } from '../telemetry/trace-context.ts';
import type { Tracer } from '../telemetry/tracer.ts';

interface Watch {
  received(metadata: Metadata): void;
  /** Once. */
  ended(status: Pick<StatusObject, 'code' | 'details'>): void;
}

/** `begin` is told the path, `/runtime.v1.RuntimeService/Version`. */
const interceptor = (begin: (path: string) => Watch): ServerInterceptor => (method, call) => {
  const watch = begin(method.path);
  let isOver = false;
  const ended = (status: Pick<StatusObject, 'code' | 'details'>): void => {
    if (!isOver) watch.ended(status);
    isOver = true;
  };
  const listener = new ServerListenerBuilder()
    .withOnReceiveMetadata((metadata, next) => {
      watch.received(metadata);
      next(metadata);
    })
    .withOnCancel(() => ended({ code: Code.CANCELLED, details: 'the client went away' }))
    .build();
  const responder = new ResponderBuilder()
    .withStart((next) => next(listener))
    .withSendStatus((status, next) => {
      ended({ code: status.code ?? Code.UNKNOWN, details: status.details ?? '' });
      next(status);
    })
    .build();
  return new ServerInterceptingCall(call, responder);
};

export const measureCalls = (metrics: CallMetrics): ServerInterceptor =>
  interceptor((path) => {
    const method = path.slice(path.lastIndexOf('/') + 1);
    const startMs = monotonicMs();
    metrics.began(method);
    return { received: () => undefined, ended: ({ code }) => metrics.ended({ method, code: Code[code], seconds: (monotonicMs() - startMs) / 1000 }) };
  });

export const traceCalls = (tracer: Tracer, ratePerMillion: number): ServerInterceptor =>
  interceptor((path) => {
    const startNs = nowNs();
    let span: SpanIdentity | undefined;
    return {
      received: (metadata) => {
        const [header] = metadata.get('traceparent');
        span = newSpan(parseTraceParent(String(header ?? '')), ratePerMillion);
      },
      ended: ({ code, details }) => {
        if (span !== undefined) tracer.record({ ...span, name: path.slice(1), startNs, endNs: nowNs(), code, message: details });
      },
    };
  });
