/** What the main thread and an unpacking worker say to each other, and the work itself. */
import { isMainThread } from 'node:worker_threads';
import { Fault, type FaultKind } from '#host/fault.ts';
import { decompressed } from './decompress.ts';
import { DigestCheck, type Digest } from './digest.ts';
import { defaultLimits, LayerApplier, type Applied, type ApplyLimits } from './layer-apply.ts';
import { settleLayer, type SettleRequest } from './layer-settle.ts';
import { TarReader } from './tar.ts';

export interface UnpackRequest {
  readonly blobPath: string;
  /** Digest of the uncompressed tar; undefined is not checked (archives of images). */
  readonly diffId: Digest | undefined;
  /** Exists and is empty; on failure it is left half filled. */
  readonly directory: string;
  readonly lowers?: readonly string[] | undefined;
  readonly plain?: boolean;
  readonly limits?: ApplyLimits;
}

export type Job = { readonly do: 'unpack'; readonly request: UnpackRequest } | { readonly do: 'settle'; readonly request: SettleRequest };
export type JobResult = { readonly unpacked: Applied } | { readonly settled: boolean };

/** `stop` holds one 32-bit number: other than 0 means give up. */
export interface JobMessage {
  readonly id: number;
  readonly job: Job;
  readonly stop: SharedArrayBuffer;
}
export type JobAnswer =
  | { readonly id: number; readonly result: JobResult }
  | { readonly id: number; readonly failure: { readonly kind: FaultKind; readonly message: string } };

/** In a worker only: it blocks its thread. */
export function doJob(job: Job, stop: SharedArrayBuffer): JobResult {
  if (isMainThread) throw new Fault('internal', 'layers are not unpacked in the main thread');
  return job.do === 'unpack' ? { unpacked: unpackLayer(job.request, stop) } : { settled: settleLayer(job.request) };
}

function unpackLayer(request: UnpackRequest, stop: SharedArrayBuffer): Applied {
  const { diffId, limits = defaultLimits } = request;
  const shouldStop = new Int32Array(stop);
  const check = diffId === undefined ? undefined : new DigestCheck(diffId);
  using applier = new LayerApplier({ root: request.directory, lowers: request.lowers, plain: request.plain === true, limits });
  const reader = new TarReader(applier);
  // Headers come on top of the content that the applier counts.
  let leftBytes = limits.maxBytes + limits.maxEntries * 4096;
  for (const chunk of decompressed(request.blobPath)) {
    if (Atomics.load(shouldStop, 0) !== 0) throw new Fault('canceled', 'unpacking was given up');
    leftBytes -= chunk.length;
    if (leftBytes < 0) throw new Fault('invalid', `layer unpacks to more than ${limits.maxBytes} bytes`);
    check?.update(chunk);
    reader.push(chunk);
  }
  reader.end();
  const actual = check?.actual();
  if (actual !== diffId) throw new Fault('invalid', `wrong diff id: the configuration says ${diffId ?? ''}, the layer's content is ${actual ?? ''}`);
  return applier.finish();
}
