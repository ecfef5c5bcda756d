/**
 * How much may be sent on a stream. Pure.
 *
 * SPDY/3.1 gives each stream 64 KiB until the reader sends WINDOW_UPDATE. The clients of Kubernetes never do, and would stall; so a window counts
 * only once the client has shown that it keeps windows. Until then TCP alone sets the pace.
 *
 * Source: SPDY Protocol Draft 3.1, section 2.6.8; moby/spdystream, connection.go, which drops WINDOW_UPDATE and SETTINGS unread.
 */

export const defaultWindowBytes = 64 * 1024;
/** RFC 7540's limit, which draft 3.1 shares: more is an error of the client's. */
const maxWindowBytes = 0x7fff_ffff;

export class SendWindow {
  #sent = 0;
  #allowed: number;

  constructor(initialBytes: number) {
    this.#allowed = initialBytes;
  }

  /** Bytes that may be sent now; negative after the client took some back. */
  get left(): number {
    return this.#allowed - this.#sent;
  }

  sent(bytes: number): void {
    this.#sent += bytes;
  }

  /** Also negative, when SETTINGS made the initial window smaller. False when no window can be that large. */
  allow(bytes: number): boolean {
    this.#allowed += bytes;
    return this.left <= maxWindowBytes;
  }
}
