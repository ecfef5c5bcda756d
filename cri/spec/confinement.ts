/** What a container may not see or change: masked and read-only paths. */
import type { LinuxContainerSecurityContext } from '#cri-api';

export interface PathMasks {
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
}

/** Exactly the CRI's lists, as api.proto demands; none for privileged containers. */
export function pathMasks(context: LinuxContainerSecurityContext | undefined): PathMasks {
  if (context === undefined || context.privileged) return {};
  return {
    ...(context.maskedPaths.length > 0 ? { maskedPaths: context.maskedPaths } : {}),
    ...(context.readonlyPaths.length > 0 ? { readonlyPaths: context.readonlyPaths } : {}),
  };
}
