/** What an ended container left to say: its message file, or the end of its log. */
import { open } from 'node:fs/promises';
import { isErrno } from '#host/errno.ts';
import type { ObservedContainer, ObservedPod } from '../cri/observed.ts';

const maxMessageBytes = 4096;
const maxLogBytes = 2048;
const maxLogLines = 80;

/** The pod with the messages of its ended containers filled in. Files that are gone count as empty. */
export async function withTerminationMessages(pod: ObservedPod): Promise<ObservedPod> {
  return { ...pod, containers: await Promise.all(pod.containers.map(withMessage)) };
}

async function withMessage(container: ObservedContainer): Promise<ObservedContainer> {
  if (container.state !== 'exited') return container;
  const { terminationMessagePath, terminationMessagePolicy } = container.notes;
  const file = terminationMessagePath === '' ? undefined : container.mounts.find(({ containerPath }) => containerPath === terminationMessagePath)?.hostPath;
  let written = file === undefined ? '' : await head(file, maxMessageBytes);
  const mayUseLog = terminationMessagePolicy === 'FallbackToLogsOnError' && container.exitCode !== 0 && container.reason !== 'ContainerCannotRun';
  if (written === '' && mayUseLog && container.logPath !== '') written = logTail(await tail(container.logPath, 64 * 1024));
  if (written === '') return container;
  return { ...container, message: container.message === '' ? written : `${container.message}: ${written}` };
}

async function head(path: string, bytes: number): Promise<string> {
  return readPart(path, () => ({ position: 0, length: bytes }));
}

async function tail(path: string, bytes: number): Promise<string> {
  return readPart(path, (size) => ({ position: Math.max(0, size - bytes), length: bytes }));
}

async function readPart(path: string, part: (size: number) => { position: number; length: number }): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { position, length } = part((await file.stat()).size);
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(length), position });
    return buffer.subarray(0, bytesRead).toString('utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) return '';
    throw error;
  }
}

/** The text of the last lines of a CRI log: at most 80 lines and 2048 bytes. */
export function logTail(log: string): string {
  const lines = log.split('\n').flatMap((line) => {
    const parts = /^\S+ (?:stdout|stderr) ([PF])(?::\S*)? ?(.*)$/s.exec(line);
    return parts === null ? [] : [parts[1] === 'F' ? `${parts[2] ?? ''}\n` : (parts[2] ?? '')];
  });
  return Buffer.from(lines.slice(-maxLogLines).join('')).subarray(-maxLogBytes).toString('utf8');
}
