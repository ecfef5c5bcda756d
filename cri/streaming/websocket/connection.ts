/** One WebSocket connection, server side: answers pings, says goodbye, and hands the pieces of messages on. */
import { isFault } from '#host/fault.ts';
import type { Transport } from '../transport.ts';
import { closeCode, closeFrame, messageFrame, type Piece, PieceReader, pingFrame, pongFrame } from './frames.ts';

export type MessagePiece = Piece & { readonly kind: 'message' };

export class WebSocketConnection {
  readonly #transport: Transport;
  #saidGoodbye = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Hands each piece to `take`, and waits for it. Returns when the client is gone or said goodbye. Fault invalid when it does not speak WebSocket. */
  async serve(take: (piece: MessagePiece) => Promise<void> | undefined): Promise<void> {
    const reader = new PieceReader();
    try {
      await this.#transport.read(async (chunk) => {
        for (const piece of reader.push(chunk)) {
          if (piece.kind === 'message') await take(piece);
          else if (piece.kind === 'ping') this.#transport.reply(pongFrame(piece.bytes));
          else if (piece.kind === 'close') return 'enough';
        }
        return 'more';
      }, pingFrame);
      this.#sayGoodbye(closeCode.normal);
    } catch (error) {
      if (isFault(error, 'invalid')) this.#sayGoodbye(closeCode.protocolError);
      throw error;
    } finally {
      this.#transport.destroy();
    }
  }

  /** One message; calls `done` when the connection can take more. */
  send(kind: 'text' | 'binary', parts: readonly Buffer[], done?: (error?: Error | null) => void): void {
    this.#transport.write(messageFrame(kind, parts), done);
  }

  /** Sends what is written and says goodbye; the client closes the connection then. To be called while `serve` runs. */
  async end(ctx: { readonly signal: AbortSignal }): Promise<void> {
    this.goodbye();
    await this.#transport.end(ctx);
  }

  /** Nothing will be sent behind it. May be called twice. */
  goodbye(): void {
    this.#sayGoodbye(closeCode.normal);
  }

  hangUp(): void {
    this.#transport.destroy();
  }

  #sayGoodbye(code: number): void {
    if (this.#saidGoodbye) return;
    this.#saidGoodbye = true;
    this.#transport.write([closeFrame(code)]);
  }
}
