/** Finds where the last lines of a log begin, reading it from its end. */
import type { FileHandle } from 'node:fs/promises';
import { parseLogLine } from './line.ts';

const blockBytes = 64 * 1024;
const newline = 0x0a;

/** The offset at which the last `count` lines begin; parts of one long line count as one. */
export async function tailStart(file: FileHandle, count: number): Promise<number> {
  const { size } = await file.stat();
  if (count <= 0) return size;
  let pending: Buffer = Buffer.alloc(0); // the bytes from `position` on whose line has not been seen whole
  let position = size;
  let lineEnds = 0; // full lines passed on the way back
  let isLast = true;
  while (position > 0) {
    const length = Math.min(blockBytes, position);
    position -= length;
    const block = Buffer.allocUnsafe(length);
    await file.read(block, 0, length, position);
    pending = Buffer.concat([block, pending]);
    for (let end = pending.lastIndexOf(newline, pending.length - 2); end >= 0; end = pending.lastIndexOf(newline, pending.length - 2)) {
      const line = pending.subarray(end + 1);
      if (passes(line, isLast) && ++lineEnds > count) return position + end + 1 + line.length;
      isLast = false;
      pending = pending.subarray(0, end + 1);
    }
  }
  return passes(pending, isLast) && lineEnds + 1 > count ? pending.length : 0;
}

/** Whether a line of the log ends here, seen from behind; the very last line of the file ends one in any case. */
function passes(line: Buffer, isLast: boolean): boolean {
  const text = line.at(-1) === newline ? line.subarray(0, -1) : line;
  return isLast || parseLogLine(text)?.isFull === true;
}
