/**
 * NRI's multiplexer: several byte streams over one socket. A frame is a channel and a length, four bytes each, big-endian, and the payload.
 * Pure. Source: github.com/containerd/nri v0.12.3, pkg/net/multiplex.
 */
import type { FrameFormat } from './frames.ts';
import { maxMessageBytes, messageHeaderBytes } from './ttrpc.ts';

/** Requests to the plugin, and its answers. */
export const pluginChannel = 1;
/** Requests to the runtime, and our answers. */
export const runtimeChannel = 2;

const headerBytes = 8;
const maxPayloadBytes = messageHeaderBytes + maxMessageBytes;

export const muxFormat: FrameFormat<{ readonly channel: number }> = {
  headerBytes,
  maxBodyBytes: maxPayloadBytes,
  parseHeader: (bytes) => ({ header: { channel: bytes.readUInt32BE(0) }, bodyBytes: bytes.readUInt32BE(4) }),
};

/**
 * The plugins' reader (Go's bufio, 4096 bytes) fails on a frame that is longer than its buffer, except for the rest of a message whose beginning it has
 * seen: that is read straight into its place. So a long message is its first 4096 bytes and then all the others, as Go's own writer cuts it.
 */
const firstFrameBytes = 4096;

/** The frames that carry one ttrpc message. */
export function muxFrames(channel: number, message: Buffer): Buffer[] {
  const parts = message.length <= firstFrameBytes ? [message] : [message.subarray(0, firstFrameBytes), message.subarray(firstFrameBytes)];
  return parts.flatMap((part) => {
    const header = Buffer.alloc(headerBytes);
    header.writeUInt32BE(channel, 0);
    header.writeUInt32BE(part.length, 4);
    return [header, part];
  });
}
