/** The hash that decides whether a running container still is the one its pod describes. */
import type { Container } from '../kube/types.ts';

/** Name and image are all that may change in a running pod and needs a restart (kubelet 1.37 pkg/kubelet/container/helpers.go). FNV-1a, 32 bits, hexadecimal. */
export function containerHash(container: Container): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(JSON.stringify({ image: container.image ?? '', name: container.name }))) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash.toString(16);
}
