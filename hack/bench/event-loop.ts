/** How late our event loop was, from the server's own metrics. */
import { request } from 'node:http';

/** The maximum since the last call. */
export async function longestDelayMs(socketPath: string): Promise<number> {
  const text = await new Promise<string>((resolve, reject) => {
    const call = request({ socketPath, path: '/metrics' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk)).once('end', () => resolve(body));
    });
    call.once('error', reject).end();
  });
  const seconds = /^nodejs_event_loop_delay_seconds\{quantile="1"\} (\S+)$/m.exec(text)?.[1];
  if (seconds === undefined) throw new Error('the metrics do not tell the delay of the event loop');
  return Number(seconds) * 1000;
}
