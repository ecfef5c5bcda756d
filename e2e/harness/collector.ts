/** An OpenTelemetry collector: takes spans by OTLP over gRPC from anybody. It reads the wire format by field numbers, so that nobody's generated code judges itself. */
import { Server, ServerCredentials, type ServiceDefinition, type handleUnaryCall } from '@grpc/grpc-js';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

export interface SeenSpan {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  /** 2 is an error (trace.proto, Status). */
  readonly statusCode: number;
}

export interface Collector extends AsyncDisposable {
  /** host:port. */
  readonly endpoint: string;
  readonly spans: readonly SeenSpan[];
}

export async function startCollector(): Promise<Collector> {
  const spans: SeenSpan[] = [];
  const server = new Server();
  const take: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    spans.push(...spansOf(call.request));
    callback(null, Buffer.alloc(0));
  };
  const whole = (bytes: Buffer): Buffer => bytes;
  const service: ServiceDefinition = { export: {
    path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export', requestStream: false, responseStream: false,
    requestSerialize: whole, requestDeserialize: whole, responseSerialize: whole, responseDeserialize: whole,
  } };
  server.addService(service, { export: take });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => { if (error === null) resolve(bound); else reject(error); });
  });
  return { endpoint: `127.0.0.1:${port}`, spans, [Symbol.asyncDispose]: async () => { server.forceShutdown(); } };
}

type Field = Uint8Array | bigint | number;

/** Field number → its values, in order. */
function fieldsOf(message: Uint8Array): Map<number, Field[]> {
  const reader = new BinaryReader(message);
  const fields = new Map<number, Field[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const value = type === WireType.LengthDelimited ? reader.bytes() : type === WireType.Bit64 ? BigInt(reader.fixed64()) : type === WireType.Varint ? BigInt(reader.uint64()) : reader.fixed32();
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

const messages = (fields: ReadonlyMap<number, Field[]>, number: number): Map<number, Field[]>[] =>
  (fields.get(number) ?? []).filter((value) => value instanceof Uint8Array).map(fieldsOf);
const bytes = (fields: ReadonlyMap<number, Field[]>, number: number): Buffer => {
  const value = fields.get(number)?.[0];
  return value instanceof Uint8Array ? Buffer.from(value) : Buffer.alloc(0);
};
const integer = (fields: ReadonlyMap<number, Field[]>, number: number): bigint => {
  const value = fields.get(number)?.[0] ?? 0n;
  return value instanceof Uint8Array ? 0n : BigInt(value);
};

/** ExportTraceServiceRequest: opentelemetry-proto, collector/trace/v1 and trace/v1. */
function spansOf(request: Uint8Array): SeenSpan[] {
  return messages(fieldsOf(request), 1).flatMap((resourceSpans) => {
    const attributes = messages(resourceSpans, 1).flatMap((resource) => messages(resource, 1));
    const service = attributes.find((each) => bytes(each, 1).toString() === 'service.name');
    const serviceName = service === undefined ? '' : bytes(messages(service, 2)[0] ?? new Map(), 1).toString();
    return messages(resourceSpans, 2).flatMap((scope) => messages(scope, 2)).map((span) => ({
      service: serviceName, name: bytes(span, 5).toString(),
      traceId: bytes(span, 1).toString('hex'), spanId: bytes(span, 2).toString('hex'), parentSpanId: bytes(span, 4).toString('hex'),
      startNs: integer(span, 7), endNs: integer(span, 8), statusCode: Number(integer(messages(span, 15)[0] ?? new Map(), 3)),
    }));
  });
}
