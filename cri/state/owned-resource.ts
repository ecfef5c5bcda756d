/**
 * What a sandbox or container has outside our memory. It is written into the record before it is made, and taken off the list after it
 * was undone; teardown walks the list backwards, whether a creation failed, a removal was asked for, or we were killed in between.
 */

export type OwnedResource =
  /** Pinned namespaces, one file per kind. */
  | { readonly kind: 'namespaces'; readonly dir: string }
  /** An attachment made by CNI plugins. */
  | { readonly kind: 'network'; readonly netnsPath: string }
  /** A tmpfs or bind. */
  | { readonly kind: 'mount'; readonly target: string }
  /** The overlay and its upper directory, below the container's directory. */
  | { readonly kind: 'rootfs'; readonly dir: string }
  /** A control group in cgroupfs notation. */
  | { readonly kind: 'cgroup'; readonly path: string }
  /** A container known to an OCI runtime, with its monitor. */
  | { readonly kind: 'oci'; readonly id: string; readonly handler: string };

export const sameResource = (a: OwnedResource, b: OwnedResource): boolean => JSON.stringify(a) === JSON.stringify(b);
