/** A layer blob as a tar stream: the compression is recognised by the first bytes, as containerd does; media types have been wrong too often. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable, Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Fault } from '#host/fault.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

const chunkBytes = 256 * 1024;

/** `head`: the first bytes, at least six if there are as many. Throws Fault invalid for formats that layers do not have. */
function compressionOf(head: Uint8Array): Compression {
  const startsWith = (...bytes: number[]): boolean => bytes.every((byte, index) => head[index] === byte);
  if (startsWith(0x1f, 0x8b)) return 'gzip';
  // A frame, or a skippable frame as zstd:chunked may begin with.
  if (startsWith(0x28, 0xb5, 0x2f, 0xfd) || ((head[0] ?? 0) >> 4 === 5 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18)) return 'zstd';
  if (startsWith(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) throw new Fault('invalid', 'layer is compressed with xz, which is not supported');
  if (startsWith(0x42, 0x5a, 0x68)) throw new Fault('invalid', 'layer is compressed with bzip2, which is not supported');
  return 'none';
}

/** The uncompressed content of a file. Damage ends the stream with an error. */
export async function openDecompressed(path: string): Promise<Readable> {
  const head = Buffer.alloc(6);
  {
    await using file = await open(path, 'r');
    await file.read(head, 0, head.length, 0);
  }
  const compression = compressionOf(head);
  const source = createReadStream(path, { highWaterMark: chunkBytes });
  if (compression === 'none') return source;
  const decoder: Transform = compression === 'gzip' ? createGunzip({ chunkSize: chunkBytes }) : createZstdDecompress({ chunkSize: chunkBytes });
  source.on('error', (error) => decoder.destroy(error));
  decoder.on('close', () => source.destroy());
  return source.pipe(decoder);
}
