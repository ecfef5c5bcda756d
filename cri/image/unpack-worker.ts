/** Entry of the worker thread that unpacks layers; bundled beside the program as unpack-worker.js. */
import { parentPort } from 'node:worker_threads';
import { explain, Fault } from '#host/fault.ts';
import { doJob, type JobAnswer, type JobMessage } from './unpack-job.ts';

const port = parentPort;
if (port === null) throw new Error('this is a worker thread, not a program');

port.on('message', ({ id, job, stop }: JobMessage) => {
  let answer: JobAnswer;
  try {
    answer = { id, result: doJob(job, stop) };
  } catch (error) {
    answer = { id, failure: { kind: error instanceof Fault ? error.kind : 'internal', message: explain(error) } };
  }
  port.postMessage(answer);
});
