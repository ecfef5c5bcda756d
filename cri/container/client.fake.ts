/** For root tests of exec and attach: a client of the streams. */
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Collector } from '../oci/output.ts';
import type { ProcessIo, TerminalSize } from '../streaming/targets.ts';

/** Sends what the test writes to `stdin` and `sizes`, keeps what it gets. */
export class Client implements ProcessIo {
  readonly stdin = new PassThrough();
  readonly stdout = new Collector({ bytesLeft: 100_000_000 });
  readonly stderr = new Collector({ bytesLeft: 1_000_000 });
  readonly sizes = new PassThrough({ objectMode: true });
  readonly resizes = this.sizes as AsyncIterable<TerminalSize>;

  async saw(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      await sleep(10);
    }
  }

  get text(): string {
    return this.stdout.bytes().toString('utf8');
  }
}
