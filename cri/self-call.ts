/** Asking this server through its own socket, as a client that just came would: only an answer proves that it still serves. */
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { connectCri } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';

type Reply<T> = (error: ServiceError | null, answer: T) => void;

/** Version and Status over a connection of its own. Throws Fault when no answer comes before `ctx` is given up. */
export async function selfCall(ctx: Ctx, socket: string): Promise<void> {
  const { runtime, close } = connectCri(socket);
  const ask = <T>(start: (reply: Reply<T>) => { cancel(): void }): Promise<T> =>
    new Promise((resolve, reject) => {
      const call = start((error, answer) => {
        ctx.signal.removeEventListener('abort', giveUp);
        if (error === null) resolve(answer);
        else reject(new Fault('unavailable', `no answer on ${socket}`, error));
      });
      const giveUp = (): void => call.cancel();
      ctx.signal.addEventListener('abort', giveUp, { once: true });
    });
  try {
    await ask<unknown>((reply) => runtime.version({ version: '' }, new Metadata(), reply));
    await ask<unknown>((reply) => runtime.status({ verbose: false }, new Metadata(), reply));
  } finally {
    close();
  }
}
