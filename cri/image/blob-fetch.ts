/** One blob from a registry into the blob store, believing nothing but the digest: who sent wrong content is passed over. */
import { monotonicMs } from '#host/clock.ts';
import type { Ctx } from '#host/ctx.ts';
import { Fault } from '#host/fault.ts';
import { blobFetched } from '#host/news.ts';
import { BlobDownload } from './blob-download.ts';
import type { BlobStore } from './blob-store.ts';
import type { BlobSize } from './ingest.ts';
import { addressOf } from './registry-hosts.ts';
import { RegistryError } from './registry-http.ts';
import type { RegistrySession } from './registry.ts';

export interface FetchDeps {
  readonly blobs: BlobStore;
  readonly session: RegistrySession;
}

/** Resolves when the blob is in the store. Once at a time per digest. Throws Fault timeout ("progress timeout") after too long without a byte. */
export async function fetchBlob(ctx: Ctx, deps: FetchDeps, blob: BlobSize, options: { durable?: boolean } = {}): Promise<void> {
  const { blobs, session } = deps;
  for (let connections = session.connectionsPerBlob; ; ) {
    if (blobs.has(blob.digest)) return;
    await using ingest = await blobs.ingest(ctx, blob);
    const startMs = monotonicMs();
    const startBytes = ingest.receivedBytes;
    const hadOldBytes = ingest.hasOldBytes;
    const download = new BlobDownload(session, ingest, connections);
    try {
      await download.run(ctx);
      await ingest.commit(options);
      blobFetched.tell(() => ({ bytes: blob.sizeBytes - startBytes, seconds: (monotonicMs() - startMs) / 1000 }));
      return;
    } catch (cause) {
      // The room is needed now, for whatever; nobody knows when somebody asks for this again.
      if (cause instanceof Fault && cause.kind === 'exhausted' && !(cause instanceof RegistryError)) await ingest.discard();
      // Errors of the exchange were dealt with below; this is about what came.
      if (!(cause instanceof Fault) || cause instanceof RegistryError || cause.kind !== 'invalid') throw cause;
      await ingest.discard();
      const { sender } = download;
      const fields = { blob: blob.digest, host: sender?.host, err: cause };
      // Bytes of an earlier attempt may be at fault (a power loss), or ranges that were others than it said; otherwise it is whoever sent them.
      if (hadOldBytes) ctx.log.warn(fields, 'a resumed download was wrong; starting over');
      else if (download.wasSplit) {
        connections = 1;
        ctx.log.warn(fields, 'a download in parts was wrong; once more in one piece');
      }
      else if (sender !== undefined && session.exclude(sender)) ctx.log.warn(fields, 'a host sent wrong content; trying the next');
      else throw new Fault('invalid', `blob from ${sender === undefined ? 'disk' : addressOf(sender)}`, cause);
    }
  }
}
