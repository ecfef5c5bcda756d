/** The way from a client to a process. */
import type { Readable, Writable } from 'node:stream';

/** What the client sends goes to the process, and its end too; once the process has closed its side, what still comes is dropped. Returns the stop. */
export function feed(source: Readable, target: Writable, options: { end: boolean }): () => void {
  const drop = (): void => {
    source.unpipe(target);
    source.resume();
  };
  target.once('error', drop);
  source.pipe(target, options);
  return () => {
    target.off('error', drop).on('error', () => undefined);
    source.unpipe(target);
  };
}
