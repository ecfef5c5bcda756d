/** GET /metrics by HTTP, on a unix socket that only its owner can open or on a TCP port. */
import { rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { Fault } from '#host/fault.ts';
import { type ListenAddress, parseAddress } from '#host/listen-address.ts';
import { madePrivate } from '#host/private-socket.ts';
import type { MetricRegistry } from './registry.ts';

export interface MetricsServer {
  stop(): Promise<void>;
}

/** A scrape needs one request; who sends more, or slowly, is cut off. */
const requestTimeoutMs = 10_000;
const maxConnections = 16;

/** Fault internal when it cannot listen there. What an earlier run left at a socket's path is replaced. */
export async function serveMetrics(address: string, registry: MetricRegistry): Promise<MetricsServer> {
  const where = parseAddress(address);
  if (where === undefined) throw new Fault('invalid', `metrics address ${JSON.stringify(address)}`);
  const server = createServer({ requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 8192 }, (request, response) => {
    if (request.url?.split('?')[0] !== '/metrics') response.writeHead(404).end('not found; there is /metrics\n');
    else if (request.method !== 'GET' && request.method !== 'HEAD') response.writeHead(405, { allow: 'GET, HEAD' }).end();
    else response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(registry.text());
  });
  server.maxConnections = maxConnections;
  try {
    await listen(server, where);
  } catch (cause) {
    throw new Fault('internal', `serve metrics on ${address}`, cause);
  }
  return {
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      if ('path' in where) await rm(where.path, { force: true });
    },
  };
}

async function listen(server: Server, where: ListenAddress): Promise<void> {
  if ('path' in where) await rm(where.path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The socket is made by the call itself.
  madePrivate(() => server.listen(where, resolve));
  await promise;
}
