/** The methods of a service that nodelet does not have, each answering Unimplemented with its name. Pure. */
import { type handleUnaryCall, Metadata, type ServiceDefinition, status as Code, type UntypedHandleCall, type UntypedServiceImplementation } from '@grpc/grpc-js';

/** `present` completed with a refusal for each method of `definition` that it lacks. Unary and streaming refusals have the same shape. */
export function withRefusals(definition: ServiceDefinition, present: Readonly<Record<string, UntypedHandleCall | undefined>>): UntypedServiceImplementation {
  const all: UntypedServiceImplementation = {};
  for (const [name, handler] of Object.entries(present)) if (handler !== undefined) all[name] = handler;
  for (const [name, method] of Object.entries(definition)) {
    if (all[name] !== undefined) continue;
    const rpc = method.path.split('/').at(-1) ?? name;
    const refusal = { code: Code.UNIMPLEMENTED, details: `nodelet does not implement ${rpc}`, metadata: new Metadata() };
    if (method.responseStream) all[name] = ((call: { emit(event: 'error', error: unknown): void }) => call.emit('error', refusal)) as never;
    else all[name] = ((_call, callback) => callback({ ...refusal, name: 'ServiceError', message: refusal.details })) as handleUnaryCall<unknown, unknown>;
  }
  return all;
}
