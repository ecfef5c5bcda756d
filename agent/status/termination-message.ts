/** What an ended container left to say: its message file, or the end of its log. */
import { open } from 'node:fs/promises';
import type { Ctx } from '#host/ctx.ts';
import { isErrno } from '#host/errno.ts';
import type { ObservedContainer, ObservedPod } from '../cri/observed.ts';
import { readLogTail } from '../logs/read.ts';

const maxMessageBytes = 4096;
const maxLogBytes = 2048;
const maxLogLines = 80;

/** The pod with the messages of its ended containers filled in. Files that are gone count as empty. */
export async function withTerminationMessages(ctx: Ctx, pod: ObservedPod): Promise<ObservedPod> {
  return { ...pod, containers: await Promise.all(pod.containers.map((container) => withMessage(ctx, container))) };
}

async function withMessage(ctx: Ctx, container: ObservedContainer): Promise<ObservedContainer> {
  if (container.state !== 'exited') return container;
  const { terminationMessagePath, terminationMessagePolicy } = container.notes;
  const file = terminationMessagePath === '' ? undefined : container.mounts.find(({ containerPath }) => containerPath === terminationMessagePath)?.hostPath;
  let written = file === undefined ? '' : await head(file, maxMessageBytes);
  const mayUseLog = terminationMessagePolicy === 'FallbackToLogsOnError' && container.exitCode !== 0 && container.reason !== 'ContainerCannotRun';
  if (written === '' && mayUseLog && container.logPath !== '') written = await readLogTail(ctx, container.logPath, { lines: maxLogLines, bytes: maxLogBytes });
  if (written === '') return container;
  return { ...container, message: container.message === '' ? written : `${container.message}: ${written}` };
}

async function head(path: string, bytes: number): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(bytes), position: 0 });
    return buffer.subarray(0, bytesRead).toString('utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) return '';
    throw error;
  }
}
