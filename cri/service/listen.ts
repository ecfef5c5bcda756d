/** The gRPC server on a unix socket. */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Server, ServerCredentials, type ServerInterceptor, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { Fault } from '#host/fault.ts';
import { umask } from '#host/libc.ts';
import { maxMessageBytes } from '../api/client.ts';
import { healthService, HealthService } from './health.ts';
import { imageDefinition, runtimeDefinition } from './list-methods.ts';

export interface Listening {
  /** Ends the open calls after `graceMs` and removes the socket. */
  close(graceMs: number): Promise<void>;
}

/**
 * Serves both CRI services and the standard health service on `socket` (an absolute path), mode 0600; what an earlier run left at the path is replaced. The caller
 * holds the lock on the root directory, so nobody else is serving there.
 * Methods that are not implemented answer Unimplemented.
 */
export async function listen(
  socket: string, services: { runtime: UntypedServiceImplementation; image: UntypedServiceImplementation }, interceptors: readonly ServerInterceptor[],
): Promise<Listening> {
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    interceptors: [...interceptors],
  });
  server.addService(runtimeDefinition, services.runtime);
  server.addService(imageDefinition, services.image);
  server.addService(HealthService, healthService(['runtime.v1.RuntimeService', 'runtime.v1.ImageService']));
  await mkdir(dirname(socket), { recursive: true, mode: 0o711 });
  await rm(socket, { force: true });
  // Made unreachable for others from the first moment, not only after the chmod.
  const before = umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    });
  } catch (cause) {
    throw new Fault('internal', `listen on ${socket}`, cause);
  } finally {
    umask(before);
  }
  await chmod(socket, 0o600);
  return {
    close: async (graceMs) => {
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      const force = setTimeout(() => server.forceShutdown(), graceMs);
      await closed;
      clearTimeout(force);
      await rm(socket, { force: true });
    },
  };
}
