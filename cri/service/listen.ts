/** The gRPC server on a unix socket. */
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Server, ServerCredentials, type ServerInterceptor, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { Fault } from '#host/fault.ts';
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
  const health = healthService(['runtime.v1.RuntimeService', 'runtime.v1.ImageService']);
  server.addService(HealthService, health.service);
  try {
    await bindPrivately(server, socket);
  } catch (cause) {
    throw new Fault('internal', `listen on ${socket}`, cause);
  }
  return {
    close: async (graceMs) => {
      health.end();
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      const force = setTimeout(() => server.forceShutdown(), graceMs);
      await closed;
      clearTimeout(force);
      await rm(socket, { force: true });
    },
  };
}

/** Where others cannot reach it until it has its mode, and then at its place: grpc-js binds some time after it was asked, so no mask could be held for it. */
async function bindPrivately(server: Server, socket: string): Promise<void> {
  const directory = join(dirname(socket), `.${basename(socket)}`);
  const hidden = join(directory, 's');
  // What a killed run left.
  await rm(directory, { recursive: true, force: true });
  await mkdir(dirname(socket), { recursive: true, mode: 0o711 });
  await mkdir(directory, { mode: 0o700 });
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${hidden}`, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    });
    await chmod(hidden, 0o600);
    await rename(hidden, socket);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
