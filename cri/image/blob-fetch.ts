/** One blob from a registry into the blob store: goes on where it stopped, notices when nothing comes any more, and believes nothing but the digest. */
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import { explain, Fault } from '#host/fault.ts';
import { blobFetched } from '#host/news.ts';
import type { BlobSize, BlobStore, Ingest } from './blob-store.ts';
import type { Endpoint } from './registry-hosts.ts';
import { RegistryError } from './registry-http.ts';
import type { RegistrySession } from './registry.ts';

/** A connection on which nothing comes for this long is given up for another. */
const stallMs = 60_000;
/** Tries in a row that bring no byte at all. */
const maxFruitless = 5;

export interface FetchDeps {
  readonly blobs: BlobStore;
  readonly session: RegistrySession;
}

/** Resolves when the blob is in the store. Once at a time per digest. Throws Fault timeout ("progress timeout") after too long without a byte. */
export async function fetchBlob(ctx: Ctx, deps: FetchDeps, blob: BlobSize, options: { durable?: boolean } = {}): Promise<void> {
  const { blobs, session } = deps;
  for (;;) {
    if (blobs.has(blob.digest)) return;
    await using ingest = await blobs.ingest(ctx, blob);
    const startMs = monotonicMs();
    const startOffset = ingest.offset;
    const sender = await fill(ctx, session, ingest);
    const hadOldBytes = ingest.hasOldBytes;
    try {
      await ingest.commit(options);
      blobFetched.tell(() => ({ bytes: blob.sizeBytes - startOffset, seconds: (monotonicMs() - startMs) / 1000 }));
      return;
    } catch (cause) {
      if (!(cause instanceof Fault) || cause.kind !== 'invalid') throw cause;
      // Bytes of an earlier attempt may be at fault (a power loss); otherwise it is whoever sent them.
      if (hadOldBytes) ctx.log.warn({ blob: blob.digest }, 'a resumed download had the wrong digest; starting over');
      else if (sender !== undefined && session.exclude(sender)) {
        ctx.log.warn({ blob: blob.digest, host: sender.host, err: cause }, 'a host sent wrong content; trying the next');
      }
      else throw new Fault('invalid', `blob from ${sender === undefined ? 'disk' : `${sender.scheme}://${sender.host}`}`, cause);
    }
  }
}

/** Until all bytes are here. The endpoint of the last of them. */
async function fill(ctx: Ctx, session: RegistrySession, ingest: Ingest): Promise<Endpoint | undefined> {
  let sender: Endpoint | undefined;
  let fruitless = 0;
  let progressAtMs = monotonicMs();
  while (!ingest.isComplete) {
    const before = ingest.offset;
    try {
      sender = await transfer(ctx, session, ingest);
    } catch (error) {
      ctx.signal.throwIfAborted();
      if (isErrno(error, 'ENOSPC', 'EDQUOT')) throw new Fault('exhausted', 'no space left on the disk', error);
      if (!mayRetry(error, before > 0)) throw error;
      if (ingest.offset > before) {
        fruitless = 0;
        progressAtMs = monotonicMs();
      } else fruitless += 1;
      const idleMs = monotonicMs() - progressAtMs;
      if (idleMs >= session.progressTimeoutMs) {
        throw new Fault('timeout', `progress timeout: no data for ${Math.round(idleMs / 1000)} s (${howFar(ingest)})`, error);
      }
      if (fruitless >= maxFruitless) throw error;
      ctx.log.debug({ blob: ingest.blob.digest, offset: ingest.offset, why: explain(error) }, 'download goes on where it stopped');
      await sleep(Math.min(session.retryDelayMs * 2 ** fruitless, session.progressTimeoutMs), undefined, { signal: ctx.signal });
    }
  }
  return sender;
}

/** What the registry refuses for good stays refused; once bytes have come, even "connection refused" may be a registry that restarts. */
const mayRetry = (error: unknown, hasBegun: boolean): boolean =>
  error instanceof RegistryError ? error.isTemporary || (hasBegun && error.status === undefined) : !(error instanceof Fault);

const howFar = ({ blob, offset }: Ingest): string => `${offset} of ${blob.sizeBytes} bytes of blob ${blob.digest}`;

/** One connection's worth. Ends without error only when the blob is complete. */
async function transfer(ctx: Ctx, session: RegistrySession, ingest: Ingest): Promise<Endpoint> {
  const { stream, offset, endpoint } = await session.blob(ctx, ingest.blob.digest, ingest.offset);
  const limitMs = Math.min(stallMs, session.progressTimeoutMs);
  const timer = setTimeout(() => stream.destroy(new Error(`no data for ${limitMs / 1000} s`)), limitMs);
  try {
    if (offset !== ingest.offset) await ingest.restart();
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      timer.refresh();
      await ingest.write(chunk);
    }
  } finally {
    clearTimeout(timer);
    stream.destroy();
    await ingest.flush();
  }
  if (!ingest.isComplete) {
    throw new RegistryError('unavailable', `${endpoint.scheme}://${endpoint.host}: the transfer ended early (${howFar(ingest)})`, { isTemporary: true });
  }
  return endpoint;
}
