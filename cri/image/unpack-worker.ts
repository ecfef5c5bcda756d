/** Entry of the worker thread that unpacks layers; bundled beside the program as unpack-worker.js. */
import { parentPort } from 'node:worker_threads';
import { explain, Fault } from '#host/fault.ts';
import { doJob, type JobAnswer, type JobMessage } from './unpack-job.ts';

const port = parentPort;
if (port === null) throw new Error('this is a worker thread, not a program');

port.on('message', (message: JobMessage) => {
  doJob(message.job, message.stop).then(
    (result) => port.postMessage({ id: message.id, result } satisfies JobAnswer),
    (error: unknown) =>
      port.postMessage({ id: message.id, failure: { kind: error instanceof Fault ? error.kind : 'internal', message: explain(error) } } satisfies JobAnswer),
  );
});
