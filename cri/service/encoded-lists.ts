/** Lists of the CRI, asked for at once or as a stream of chunks; and messages that are in wire form already. */
import type { handleServerStreamingCall, handleUnaryCall, MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type Encoded, encodedList } from '#cri-api';
import type { Ctx } from '#host/ctx.ts';
import { serverStream, unary } from './call.ts';

/** Worked out when it is its turn. */
export type Later<Message> = () => Promise<Encoded<Message>>;
export type Items<Message> = readonly (Encoded<Message> | Later<Message>)[];
export type List<Request, Message> = (ctx: Ctx, request: Request) => Items<Message> | Promise<Items<Message>>;

const settled = <Message>(item: Encoded<Message> | Later<Message>): Encoded<Message> | Promise<Encoded<Message>> => (typeof item === 'function' ? item() : item);

/** The whole list in one message. */
export const listOf = <Request, Message>(log: Logger, rpc: string, list: List<Request, Message>): handleUnaryCall<Request, readonly Encoded<Message>[]> =>
  unary(log, rpc, async (ctx, request: Request) => Promise.all((await list(ctx, request)).map(settled)));

/** Small enough to be sent while the next is worked out, and far below the 16 MiB that clients take. */
const chunkBytes = 512 * 1024;
/** Items that are worked out together. */
const itemsAtOnce = 32;

/** The same list in chunks: each item once, as the state was when the call began; no message when there is none (CRI api.proto, Stream…). */
export const streamOf = <Request, Message>(log: Logger, rpc: string, list: List<Request, Message>): handleServerStreamingCall<Request, readonly Encoded<Message>[]> =>
  serverStream(log, rpc, async function* (ctx, request: Request) {
    const items = await list(ctx, request);
    let chunk: Encoded<Message>[] = [];
    let bytes = 0;
    for (let next = 0; next < items.length; next += itemsAtOnce) {
      for (const item of await Promise.all(items.slice(next, next + itemsAtOnce).map(settled))) {
        if (bytes > 0 && bytes + item.length > chunkBytes) {
          yield chunk;
          chunk = [];
          bytes = 0;
        }
        chunk.push(item);
        bytes += item.length;
      }
    }
    if (chunk.length > 0) yield chunk;
  });

/** `definition` with serializers for what the methods of these names answer: lists of encoded items, or whole encoded messages. */
export function withEncoded(definition: ServiceDefinition, names: { readonly lists: readonly string[]; readonly whole: readonly string[] }): ServiceDefinition {
  const changed: Record<string, MethodDefinition<unknown, unknown>> = {};
  for (const name of names.lists) changed[name] = { ...methodOf(definition, name), responseSerialize: (items) => encodedList(items as readonly Uint8Array[]) };
  for (const name of names.whole) changed[name] = { ...methodOf(definition, name), responseSerialize: (message) => Buffer.from(message as Uint8Array) };
  return { ...definition, ...changed };
}

function methodOf(definition: ServiceDefinition, name: string): MethodDefinition<unknown, unknown> {
  const method = definition[name];
  if (method === undefined) throw new Error(`there is no method ${name}`);
  return method as MethodDefinition<unknown, unknown>;
}
