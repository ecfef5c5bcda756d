/** A byte stream in the binary messages of one WebSocket, whatever their borders: what SPDY is tunnelled in. */
import { Duplex } from 'node:stream';
import type { WebSocketConnection } from './connection.ts';

export class Tunnel extends Duplex {
  readonly #connection: WebSocketConnection;
  #wake: (() => void) | undefined;

  constructor(connection: WebSocketConnection) {
    super({ highWaterMark: 64 * 1024 });
    this.#connection = connection;
  }

  /** Carries bytes until the client is gone or said goodbye. Fault invalid when it does not speak WebSocket. */
  async serve(): Promise<void> {
    try {
      await this.#connection.serve((piece) => (this.destroyed || piece.bytes.length === 0 || this.push(piece.bytes) ? undefined : this.#untilRead()));
      this.push(null);
    } finally {
      this.destroy();
    }
  }

  override _read(): void {
    this.#wake?.();
  }

  override _write(bytes: Buffer, _encoding: unknown, done: (error?: Error | null) => void): void {
    this.#connection.send('binary', [bytes], done);
  }

  override _final(done: () => void): void {
    this.#connection.goodbye();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#wake?.();
    this.#connection.hangUp();
    done(error);
  }

  async #untilRead(): Promise<void> {
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
  }
}
