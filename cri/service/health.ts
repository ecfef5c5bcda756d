/** grpc.health.v1.Health, the standard question whether a gRPC server is alive, as containerd answers it too. Source: grpc/doc/health-checking.md. */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { type sendUnaryData, type ServerUnaryCall, type ServerWritableStream, type ServiceDefinition, status, type UntypedServiceImplementation } from '@grpc/grpc-js';

interface Question {
  /** '' asks for the server as a whole. */
  readonly service: string;
}
const serving = 1;
const serviceUnknown = 3;

function readQuestion(bytes: Uint8Array): Question {
  const reader = new BinaryReader(bytes);
  let service = '';
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) service = reader.string();
    else reader.skip(wireType);
  }
  return { service };
}

const path = (method: string): string => `/grpc.health.v1.Health/${method}`;
const shape = {
  requestStream: false,
  requestSerialize: ({ service }: Question) => Buffer.from(new BinaryWriter().uint32(10).string(service).finish()),
  requestDeserialize: readQuestion,
  responseSerialize: (answer: number) => Buffer.from(new BinaryWriter().uint32(8).int32(answer).finish()),
  responseDeserialize: (bytes: Buffer) => bytes[1] ?? 0,
} as const;

export const HealthService: ServiceDefinition = {
  check: { ...shape, path: path('Check'), responseStream: false },
  watch: { ...shape, path: path('Watch'), responseStream: true },
};

/**
 * `known` are the full names of the services beside it. Whoever gets an answer at all may serve: the socket is there only while we can. `end` ends
 * the streams of those who watch, who learn by it that the server goes.
 */
export function healthService(known: readonly string[]): { readonly service: UntypedServiceImplementation; end(): void } {
  const isKnown = (service: string): boolean => service === '' || known.includes(service);
  const watchers = new Set<ServerWritableStream<Question, number>>();
  const service = {
    check: ({ request }: ServerUnaryCall<Question, number>, reply: sendUnaryData<number>): void => {
      if (isKnown(request.service)) reply(null, serving);
      else reply({ code: status.NOT_FOUND, details: `unknown service ${request.service}` });
    },
    watch: (call: ServerWritableStream<Question, number>): void => {
      watchers.add(call);
      call.once('close', () => watchers.delete(call));
      call.write(isKnown(call.request.service) ? serving : serviceUnknown);
    },
  };
  return { service, end: () => { for (const call of watchers) call.end(); } };
}
